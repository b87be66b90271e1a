"""Where the real COCO images are, and some of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

COCO = Path(os.environ.get("COCO_DIR", Path(__file__).parents[2] / "shared" / "coco"))
MISSING_COCO = "needs real COCO images: set COCO_DIR or put them at ../shared/coco"


def training_photos(folder: Path) -> Path:
    """Eight real photos of training people, copied into `folder`."""
    if not (COCO / "train").is_dir():
        pytest.skip(MISSING_COCO)
    for path in sorted((COCO / "train").glob("*.jpg"))[:8]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder
