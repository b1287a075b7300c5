"""What every plan of a run is changed by: calibrated strengths, a compliance direction, and chosen heads."""
