"""Directions: streamed statistics, extractors behind one registry, transforms; pure tensor functions."""
