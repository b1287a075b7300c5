"""The bundled toy model and an edit of it; scripts/train_demo_model.py makes both."""

from pathlib import Path

DEMO_MODEL_FOLDER = Path(__file__).parent / "model"
"""A transformers folder."""
DEMO_EDIT_FOLDER = Path(__file__).parent / "edited"
"""A folder that Heretic saved: an adapter of the model."""
