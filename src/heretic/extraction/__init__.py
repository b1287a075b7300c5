"""Finding directions in a loaded model: what the pure methods of `heretic.directions` need a model for."""
