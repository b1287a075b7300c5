"""Many processes on one study: a lead asks, sends plans and tells; workers, each with a loaded model, measure them."""
