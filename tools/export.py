"""Owns export: a `.keras` network becomes an ONNX graph, with the decoding layers appended.

The graph takes uint8 `pixels` (B, H, W, 3) and carries the `PipelineSpec` in its metadata, so that
`tools build-repo` needs nothing but the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pose_runtime.errors import PoseError
from pose_runtime.spec import PipelineSpec

from .artifacts import Artifact, atomic_path
from .cpu_runtimes import onnx_session
from .decoding import DecodeSettings, decode_fields
from .fields import Fields
from .keras_models import load_network
from .onnx_contract import PIPELINE_KEY
from .onnx_graph import CONVOLUTIONS
from .onnx_input import fold_pixel_scale
from .onnx_names import name_by_place

OPSET = 17
MAX_PEAK_SHIFT = 0.5  # network pixels between Keras and ONNX, on sample images
MAX_FIELD_ERROR = 1e-2  # the same for raw fields, whose values are in -1..1
# Convolution kernels of at least this many numbers are stored as float16 and cast when loaded.
_MIN_HALF_SIZE = 256
_SCALE_MARGIN = 1e-6  # of a scale: less than a cell of any image, more than float32's rounding
# Peaks this close to grouping's threshold may be on either side of it.
_SCORE_MARGIN = 0.02

Floats = NDArray[np.float32]


class ExportError(PoseError):
    """The exported graph does not say what the network says."""


def export_onnx(
    model_path: Path,
    out: Path,
    *,
    network_hw: tuple[int, int] | None,
    decode: DecodeSettings | None,
    samples: Callable[[tuple[int, int]], NDArray[np.uint8]],
) -> tuple[Artifact, float]:
    """Write a network as ONNX and prove on sample images that both say the same.

    Args:
        model_path: `.keras` file with its record.
        out: file to write.
        network_hw: input size; None takes the size that the network was trained with.
        decode: settings of the appended decoding layers; None leaves them out, and the outputs
            are `heatmaps` (B, h, w, J + 1) and `affinity` (B, h, w, 2L).
        samples: makes (B, H, W, 3) uint8 images of the size given.

    Returns:
        The file, and the largest difference found: pixels that a peak moved, or error of a field.

    Raises:
        ExportError: the difference is above `MAX_PEAK_SHIFT` or `MAX_FIELD_ERROR`.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"export: expected Keras on TensorFlow, got {keras.backend.backend()};"
            " unset KERAS_BACKEND"
        )
    network, pipeline, parent = load_network(model_path)
    if network_hw is not None:
        pipeline = replace(pipeline, network_hw=network_hw)
    if decode is not None:
        pipeline = replace(pipeline, max_peaks=decode.max_peaks)
    served, names = _served_model(network, pipeline, decode)
    with atomic_path(out) as temporary:
        graph = _convert(served, names, pipeline)
        onnx.save(graph, temporary)
        images = samples(pipeline.network_hw)
        session = onnx_session(temporary)
        ours = [np.asarray(output) for output in served.predict_on_batch(images)]
        theirs = session.run(list(names), {pipeline.pixels.name: images})
        difference = (
            _largest_field_error(ours, theirs)
            if decode is None
            else _largest_peak_shift(ours[0], theirs[0], pipeline.grouping.min_peak_score)
        )
        limit = MAX_FIELD_ERROR if decode is None else MAX_PEAK_SHIFT
        if not difference <= limit:
            raise ExportError(
                f"{out}: expected Keras and ONNX within {limit} on {len(images)} sample images,"
                f" got {difference:.3g}; nothing was written"
            )
    settings = {"pipeline": json.loads(pipeline.to_json()), "outputs": list(names), "opset": OPSET}
    settings |= {"largest_difference": difference, "sample_images": len(images)}
    return Artifact.record(out, "export", parent, settings=settings), difference


def _served_model(
    network: keras.Model, pipeline: PipelineSpec, decode: DecodeSettings | None
) -> tuple[keras.Model, tuple[str, str]]:
    pixels = keras.Input(pipeline.pixels.dims, dtype="uint8", name=pipeline.pixels.name)
    fields = Fields.of(network(pixels, training=False))
    if decode is None:
        last = [fields.heatmaps[-1], fields.affinity[-1]]
        return keras.Model(pixels, last), ("heatmaps", "affinity")
    decoded = decode_fields(fields, pipeline.skeleton, decode, pipeline.network_hw)
    return keras.Model(pixels, list(decoded)), (pipeline.peaks.name, pipeline.limb_scores.name)


def _convert(
    served: keras.Model, names: tuple[str, str], pipeline: PipelineSpec
) -> onnx.ModelProto:
    """ONNX of a two-output model: named outputs, dynamic batch, float16 storage, our metadata."""
    import tensorflow as tf
    import tf2onnx

    signature = tf.TensorSpec((None, *pipeline.pixels.dims), tf.uint8, name=pipeline.pixels.name)
    function = tf.function(
        lambda pixels: served(pixels, training=False), input_signature=[signature]
    )
    graph, _ = tf2onnx.convert.from_function(function, input_signature=[signature], opset=OPSET)
    for output, name in zip(graph.graph.output, names, strict=True):
        _rename(graph.graph, output.name, name)
    _store_as_float16(graph.graph)
    _round_scales_up(graph.graph)
    fold_pixel_scale(graph.graph)
    _copy_shared_biases(graph.graph)
    name_by_place(graph.graph)
    helper.set_model_props(graph, {PIPELINE_KEY: pipeline.to_json()})
    graph.producer_name, graph.producer_version = "bodypose-triton", ""
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for output in graph.output:
        if output.name == old:
            output.name = new


def _store_as_float16(graph: onnx.GraphProto) -> None:
    """Halve the file: large convolution kernels become float16 and a Cast that loaders fold.

    Networks of `save_network` hold float16 values already; what the converter folded into them
    (batch norm) is rounded here, by at most 1 part in 2048.
    """
    casts = []
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"}
    for initializer in graph.initializer:
        if initializer.name not in kernels:
            continue
        values = numpy_helper.to_array(initializer)
        if values.dtype != np.float32 or values.size < _MIN_HALF_SIZE:
            continue
        name = initializer.name
        stored = numpy_helper.from_array(values.astype(np.float16), f"{name}_float16")
        initializer.CopyFrom(stored)
        casts.append(helper.make_node("Cast", [stored.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _round_scales_up(graph: onnx.GraphProto) -> None:
    """Resize makes floor(side * scale) cells, and float32 has 352 / 288 * 288 below 352."""
    scales = {node.input[2] for node in graph.node if node.op_type == "Resize"}
    for initializer in graph.initializer:
        if initializer.name in scales:
            values = numpy_helper.to_array(initializer)
            above = np.where(values % 1 == 0, values, values * (1 + _SCALE_MARGIN))
            initializer.CopyFrom(
                numpy_helper.from_array(above.astype(np.float32), initializer.name)
            )


def _copy_shared_biases(graph: onnx.GraphProto) -> None:
    """Of a layer that runs several times, each convolution gets a bias of its own.

    OpenVINO 2026.4 makes a bias and the activation behind it a part of the convolution only where
    nothing else reads the constant; otherwise both are one more pass over its output.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer}
    read: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS or len(node.input) < 3:
            continue
        bias = node.input[2]
        read[bias] += 1
        if read[bias] > 1 and bias in stored:
            node.input[2] = f"{bias}/{read[bias]}"
            copy = numpy_helper.from_array(numpy_helper.to_array(stored[bias]), node.input[2])
            graph.initializer.append(copy)


def _largest_field_error(ours: list[Any], theirs: list[Any]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def _largest_peak_shift(ours: Floats, theirs: Floats, min_score: float) -> float:
    """How far, in network pixels, a peak of one side lies from its nearest of the other at most.

    Both are (B, J, P, 3). Peaks below `min_score` plus a margin are compared by nobody: they may
    fall on either side of grouping's threshold.
    """
    worst = 0.0
    for one, other in ((ours, theirs), (theirs, ours)):
        strong = one[..., 2] >= min_score + _SCORE_MARGIN
        for image, joint, peak in np.argwhere(strong):
            candidates = other[image, joint]
            candidates = candidates[candidates[:, 2] > 0, :2]
            if not len(candidates):
                return float("inf")
            distances = np.linalg.norm(candidates - one[image, joint, peak, :2], axis=1)
            worst = max(worst, float(distances.min()))
    return worst
