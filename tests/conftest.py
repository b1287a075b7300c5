"""What all tests share."""

import torch

# Pico models are too small to gain from threads; waiting for them made the suite several times slower.
torch.set_num_threads(1)
