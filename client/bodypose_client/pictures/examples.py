"""The example pictures of the package: people drawn by `bodypose_tools.scenes`, no photos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

# What is seen -> a JPEG file. `python -m tests.example_pictures` draws them.
EXAMPLES: Final[Mapping[str, Path]] = {
    name: Path(__file__).with_name("examples") / f"{name}.jpg"
    for name in ("friends", "yoga", "run")
}
