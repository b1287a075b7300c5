"""Further commands: arguments, help and what each does."""
