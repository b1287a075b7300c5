"""Edits as values: plans become exact changes of weights; pure tensor functions."""
