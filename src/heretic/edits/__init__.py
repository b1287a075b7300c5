"""From a plan to changed weights: plan and algebra are pure, the other modules apply an Edit to a model."""
