"""One evaluator a file, named like the evaluator; `evaluation.evaluator.EVALUATORS` finds them."""
