"""Models that tests build."""
