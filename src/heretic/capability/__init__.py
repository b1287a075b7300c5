"""What a model is able to do, before and after an edit: multiple-choice questions and benchmarks."""
