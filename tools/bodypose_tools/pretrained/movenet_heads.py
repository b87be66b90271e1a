"""MoveNet's heads as initial weights of ours: its 17 keypoints are matched by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from pose_runtime.skeleton import Skeleton

from .weight_file import read_arrays

Floats = NDArray[np.float32]
# MoveNet's matrix, our initial matrix and our skeleton -> our filled matrix, or None.
_Fill = Callable[[Floats, Floats, Skeleton], Floats | None]
_PARTS: Final = ("kernel", "bias")
_COMMON: Final = 4.0  # logit of the background

# The order of MoveNet's channels, which is COCO's.
MOVENET_JOINTS: Final = (
    "nose",
    *(f"{side}_{part}" for part in ("eye", "ear") for side in ("left", "right")),
    *(
        f"{side}_{part}"
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)


def load_heads(network: keras.Model, weights: Path, skeleton: Skeleton) -> list[str]:
    """Start `heat_0_logits`, `centre_logits` and `offsets` from MoveNet's heads, where they fit.

    A joint of another name keeps its first values in the heatmaps. A midpoint of two joints is
    expected between them. Offsets are loaded only when every joint has a source, because what a
    centre predicts for one joint must fit its predictions for the others.

    Args:
        network: with these layers; without them nothing is loaded.
        weights: the .npz of `tools import-backbone`.
        skeleton: names the channels.

    Returns:
        Names of the layers that were loaded.
    """
    arrays = read_arrays(weights)
    layers = {layer.name: layer for layer in network.layers}
    loaded = []
    for name, head, fill in _HEADS:
        if name in layers and f"head_{head}_output/kernel" in arrays:
            filled = _filled(arrays, head, fill, layers[name].get_weights(), skeleton)
            if filled is not None:
                layers[name].set_weights(filled)
                loaded.append(name)
    return loaded


def _filled(
    arrays: Mapping[str, NDArray[Any]],
    head: str,
    fill: _Fill,
    own: list[Floats],
    skeleton: Skeleton,
) -> list[Floats] | None:
    """Kernel and bias, filled as one matrix whose last row is the bias."""
    source = [np.asarray(arrays[f"head_{head}_output/{part}"], np.float32) for part in _PARTS]
    filled = fill(_matrix(source), _matrix(own), skeleton)
    return None if filled is None else [filled[:-1][None, None], filled[-1]]


def _matrix(weights: list[Floats]) -> Floats:
    return np.concatenate([weights[0][0, 0], weights[1][None]])


def _heatmaps(source: Floats, own: Floats, skeleton: Skeleton) -> Floats | None:
    filled = own.copy()
    filled[-1, -1] = _COMMON  # nearly everything is background
    for joint, name in enumerate(skeleton.joints):
        if name in MOVENET_JOINTS:
            filled[:, joint] = source[:, MOVENET_JOINTS.index(name)]
    return filled


def _offsets(source: Floats, own: Floats, skeleton: Skeleton) -> Floats | None:
    """MoveNet's are y, x for each joint; ours are x, y."""
    by_joint: dict[int, Floats] = {
        joint: source[:, [2 * MOVENET_JOINTS.index(name) + 1, 2 * MOVENET_JOINTS.index(name)]]
        for joint, name in enumerate(skeleton.joints)
        if name in MOVENET_JOINTS
    }
    for joint, one, other in skeleton.midpoints:
        if one in by_joint and other in by_joint:
            by_joint[joint] = (by_joint[one] + by_joint[other]) / 2
    if len(by_joint) < skeleton.num_joints:
        return None
    return np.concatenate([by_joint[joint] for joint in range(skeleton.num_joints)], axis=1)


def _centre(source: Floats, own: Floats, skeleton: Skeleton) -> Floats | None:
    return source


_HEADS: Final[tuple[tuple[str, str, _Fill], ...]] = (
    ("heat_0_logits", "kpt", _heatmaps),
    ("centre_logits", "center", _centre),
    ("offsets", "regress", _offsets),
)
