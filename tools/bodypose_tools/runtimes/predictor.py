"""The type of a predictor: pixels in, peaks and limb scores out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# (B, H, W, 3) uint8 -> peaks (B, J, P, 3), limb_scores (B, L, P, P)
Predictor = Callable[[NDArray[np.uint8]], tuple[Floats, Floats]]
