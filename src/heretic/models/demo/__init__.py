"""The bundled toy model; scripts/train_demo_model.py makes it."""

from pathlib import Path

DEMO_MODEL_FOLDER = Path(__file__).parent / "model"
"""A transformers folder."""
