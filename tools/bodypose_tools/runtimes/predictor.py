"""The type of a predictor, pixels in, peaks and limb scores out, and the error of one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import PoseError, first_line

Floats = NDArray[np.float32]

# (B, H, W, 3) uint8 -> peaks (B, J, P, 3), limb_scores (B, L, P, P)
Predictor = Callable[[NDArray[np.uint8]], tuple[Floats, Floats]]


class PredictorError(PoseError):
    """A model file whose graph does not load, or does not run."""


@contextlib.contextmanager
def of_a_network(model: Path) -> Iterator[None]:
    """Inside, whatever a runtime says about a graph of somebody else is one line.

    Our own readers stay outside: a fault of theirs is not a graph's.
    """
    try:
        yield
    except PoseError:
        raise
    except Exception as error:  # a graph may make any part of a runtime fail in any way
        raise PredictorError(
            f"{model}: expected a network that runs, got {first_line(error)}; export it again"
        ) from error
