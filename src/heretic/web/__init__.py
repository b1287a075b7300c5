"""The chat page (extra web): a model, or an edited one beside its original, in a browser."""
