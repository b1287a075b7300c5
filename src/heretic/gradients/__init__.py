"""Losses of a behaviour and their gradients in an edit: prompts and onset, passes, number format."""
