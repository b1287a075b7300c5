"""Strengths found by gradient, from which the search starts."""
