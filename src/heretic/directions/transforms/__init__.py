"""One transform a file; `heretic.directions.transform` finds them by name."""
