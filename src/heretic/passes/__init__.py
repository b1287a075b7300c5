"""How a model is read: ordinary and ragged passes, kept layers, streaming, calibration, gradients."""
