"""Heretic edits behaviours of open-weight language models at the weight level."""

__version__ = "0.1.0"
