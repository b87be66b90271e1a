"""What travels with the package: models, specs, and the sources of the model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parents[1]
CHECKOUT: Final = _PACKAGE.parents[1]


def _folder(name: str) -> Path:
    """Inside the package in a wheel; at the top level of a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else CHECKOUT / name


MODEL_SOURCES: Final = _folder("model_repository")
SPECS: Final = _folder("specs")
SHIPPED_MODEL: Final = _PACKAGE / "models" / "bodypose-s.onnx"
