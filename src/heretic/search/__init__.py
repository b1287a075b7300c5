"""The search: plans from Optuna trials, the stored study, the loop, and the Pareto front."""
