"""Measuring an edited model: what a Score is, the registry of evaluators, and the evaluators."""
