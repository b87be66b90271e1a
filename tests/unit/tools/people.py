"""Drawn people for tests."""

import numpy as np

# One standing person, 40 x 100 pixels, x and y of BODYPOSE_18's joints from the upper left.
_STANDING = np.float32(
    [
        *([20, 8], [20, 20]),
        *([10, 20], [6, 36], [4, 50], [30, 20], [34, 36], [36, 50]),
        *([14, 54], [13, 76], [12, 98], [26, 54], [27, 76], [28, 98]),
        *([16, 4], [24, 4], [12, 7], [28, 7]),
    ]
)


def person(x: float, y: float, scale: float = 1.0, missing: tuple[int, ...] = ()) -> np.ndarray:
    """A standing person's joints (18, 3), with the upper left corner at x, y."""
    joints = np.concatenate([_STANDING * scale + [x, y], np.full((18, 1), 2)], axis=1)
    joints[list(missing)] = 0
    return joints.astype(np.float32)
