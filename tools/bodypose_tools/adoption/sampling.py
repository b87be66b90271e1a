"""Fields of an adopted network on images, and their values at points and along lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.runtimes.cpu import onnx_session

from .fields_graph import fields_graph
from .foreign_graph import OURS, ForeignNetwork
from .settings import Convention

Floats = NDArray[np.float32]

NUM_SAMPLES = 10  # points of a line, ends included


def fields_on(
    network: ForeignNetwork, convention: Convention, images: NDArray[np.uint8]
) -> tuple[Floats, Floats]:
    """Heatmaps (B, C, h, w) and fields (B, C', h', w') of images (B, H, W, 3), one by one.

    Raises:
        AdoptionError: the convention leaves open how pixels are scaled.
    """
    session = onnx_session(fields_graph(network, convention).SerializeToString())
    names = [f"{OURS}{kind}" for kind in ("heatmaps", "affinity")]
    answers = [session.run(names, {f"{OURS}pixels": image[None]}) for image in images]
    heatmaps, affinity = (np.concatenate(planes) for planes in zip(*answers, strict=True))
    return heatmaps, affinity


def values_at(planes: Floats, network_xy: Floats, network_hw: tuple[int, int]) -> Floats:
    """(C, ...): the cells of planes (C, h, w) at points (..., 2) in network pixels."""
    height, width = planes.shape[1:]
    columns = np.floor(network_xy[..., 0] * width / network_hw[1]).astype(int)
    rows = np.floor(network_xy[..., 1] * height / network_hw[0]).astype(int)
    return planes[:, np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)]


def means_along(
    planes: Floats, start_xy: Floats, end_xy: Floats, network_hw: tuple[int, int]
) -> Floats:
    """(C, ...): means of planes (C, h, w) along lines between points (..., 2)."""
    steps = np.linspace(0, 1, NUM_SAMPLES, dtype=np.float32)[:, None]
    points = start_xy[..., None, :] + (end_xy - start_xy)[..., None, :] * steps
    return values_at(planes, points, network_hw).mean(axis=-1, dtype=np.float32)


def directions(start_xy: Floats, end_xy: Floats) -> Floats:
    """(..., 2): unit vectors from points to points; 0 where both are one."""
    line = end_xy - start_xy
    length = np.linalg.norm(line, axis=-1, keepdims=True)
    return (line / np.maximum(length, 1e-3)).astype(np.float32)
