"""What happens during a run, for whoever wants to know: events now, logs and metrics later."""
