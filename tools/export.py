"""Owns export: a `.keras` network becomes an ONNX graph, with the decoding layers appended.

The graph takes uint8 `pixels` (B, H, W, 3) and carries the `PipelineSpec` in its metadata, so that
`tools build-repo` needs nothing but the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import PoseError
from pose_runtime.spec import PipelineSpec

from .artifacts import Artifact
from .decoding import DecodeSettings
from .keras_models import load_network

OPSET = 17
PIPELINE_KEY = "pipeline"
MAX_KEYPOINT_SHIFT = 0.5  # network pixels between Keras and ONNX, on sample images
# Initializers of at least this many numbers are stored as float16 and cast when loaded.
_MIN_HALF_SIZE = 256


class ExportError(PoseError):
    """The exported graph does not say what the network says."""


def export_onnx(
    model_path: Path,
    out: Path,
    *,
    network_hw: tuple[int, int] | None,
    decode: DecodeSettings,
    samples: NDArray[np.uint8],
    say: Callable[[str], None],
) -> Artifact:
    """Write the network with decoding layers as ONNX and prove that it finds the same people.

    Args:
        model_path: `.keras` file with its record.
        out: file to write.
        network_hw: input size; None takes the size of the network's training.
        decode: fixed inside the graph.
        samples: (B, H, W, 3) uint8, images to compare Keras and ONNX on.
        say: progress.

    Raises:
        ExportError: a keypoint moves more than `MAX_KEYPOINT_SHIFT`, or people differ.
    """
    network, pipeline, parent = load_network(model_path)
    if network_hw is not None:
        pipeline = PipelineSpec.from_json(pipeline.to_json())
    raise NotImplementedError
