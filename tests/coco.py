"""Where the real COCO images are."""

from __future__ import annotations

import os
from pathlib import Path

COCO = Path(os.environ.get("COCO_DIR", Path(__file__).parents[2] / "shared" / "coco"))
MISSING_COCO = "needs real COCO images: set COCO_DIR or put them at ../shared/coco"
