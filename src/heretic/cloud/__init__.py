"""Rented machines: from an offer to a model on one's own disk; imports no torch."""
