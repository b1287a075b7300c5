"""What is measured of a chosen trial: held-out prompts and abilities."""
