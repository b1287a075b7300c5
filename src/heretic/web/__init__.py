"""The chat page (extra web): a model, or an edited one beside its original, in a browser."""

HISTORY, MODELS = "chat_history", "models"
"""Folders of kept conversations and votes, and of models, where nobody names others."""
