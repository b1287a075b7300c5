"""One file a tracker of experiments."""
