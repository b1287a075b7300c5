"""Edits on a loaded model: in its weights, in what they write, or as an adapter."""
