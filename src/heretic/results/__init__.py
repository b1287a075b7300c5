"""What was planned and measured, as plain frozen values: scores, plans, trials, the front, the gate, tables."""
