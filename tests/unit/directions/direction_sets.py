"""Direction sets that tests compare, add and save."""

from typing import Any

import torch

from heretic.directions.types import DirectionSet

LAYERS, WIDTH = 3, 8


def random_set(seed: int = 0, k: int = 1, layers: int = LAYERS, width: int = WIDTH, **changes: Any) -> DirectionSet:
    """Orthonormal vectors, of which the embeddings have none where k is 1, as extracted ones often have."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.linalg.qr(torch.randn(layers + 1, width, k, generator=generator)).Q.mT.contiguous()
    if k == 1:
        vectors[0] = 0
    fields = {
        "vectors": vectors,
        "weights": torch.ones(layers + 1, k),
        "quality": torch.rand(layers + 1, generator=generator),
        "method": f"made up {seed}",
    }
    return DirectionSet(**{**fields, **changes})
