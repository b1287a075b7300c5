"""One kind of model that reads answers a file; `evaluation.evaluator.READERS` finds them."""
