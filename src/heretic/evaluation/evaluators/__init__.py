"""One evaluator a file; `evaluation.evaluator.EVALUATORS` finds them by name."""
