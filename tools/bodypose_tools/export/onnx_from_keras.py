"""The conversion of a `.keras` network into an ONNX graph, with or without decoding layers.

The graph takes uint8 `pixels` (B, H, W, 3) and carries the `PipelineSpec` in its metadata, so that
`tools build-repo` needs nothing but the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.graphs.channel_order import keep_channel_order
from bodypose_tools.graphs.contract import PIPELINE_KEY
from bodypose_tools.graphs.index import OPSET
from bodypose_tools.graphs.node_names import name_by_place
from bodypose_tools.graphs.pixel_scale import fold_pixel_scale
from bodypose_tools.graphs.storage import (
    copy_shared_biases,
    rename_outputs,
    round_scales_up,
    store_as_float16,
)
from bodypose_tools.networks.decoding import DecodeSettings, decode_fields
from bodypose_tools.networks.fields import Fields
from bodypose_tools.networks.keras_files import load_network
from bodypose_tools.networks.network import check_input_size
from bodypose_tools.runtimes.cpu import onnx_session
from bodypose_tools.runtimes.peaks import peak_gaps
from pose_runtime.errors import PoseError
from pose_runtime.spec import PipelineSpec

MAX_PEAK_SHIFT = 0.5  # network pixels between Keras and ONNX, on sample images
# On a ridge of equal heat rounding decides where the peak is: so many in 100 have to agree.
_AGREEING = 99
MAX_FIELD_ERROR = 1e-2  # between raw fields, whose values are in -1..1
# Peaks within this margin of grouping's threshold are not compared.
_SCORE_MARGIN = 0.02

Floats = NDArray[np.float32]


class ExportError(PoseError):
    """The exported graph does not predict what the network predicts."""


def check_backend() -> None:
    """Raises: ExportError: Keras does not run on TensorFlow, whose graphs become ONNX."""
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"expected Keras on TensorFlow, got {keras.backend.backend()}; unset KERAS_BACKEND"
        )


def export_onnx(
    model_path: Path,
    out: Path,
    *,
    network_hw: tuple[int, int] | None,
    decode: DecodeSettings | None,
    samples: Callable[[tuple[int, int]], NDArray[np.uint8]],
) -> tuple[Artifact, float]:
    """Write a network as ONNX, and compare both on sample images.

    Args:
        model_path: `.keras` file with its record.
        out: file to write.
        network_hw: input size; None: the size that the network was trained with.
        decode: settings of the decoding layers to append; None: no such layers, and the outputs are
            `heatmaps` (B, h, w, J + 1), `affinity` (B, h, w, 2L) and, where the network predicts
            person centres, `centre` and `offsets`, see `Fields`.
        samples: makes images (B, H, W, 3) uint8 of the size given.

    Returns:
        The file, and the largest difference: pixels that 99 of 100 peaks stay within, or the error
        of a field.

    Raises:
        ExportError: the difference is above `MAX_PEAK_SHIFT` or `MAX_FIELD_ERROR`, or Keras does
            not run on TensorFlow.
    """
    check_backend()
    network, pipeline, parent = load_network(model_path)
    if network_hw is not None:
        check_input_size(network, network_hw)
        pipeline = replace(pipeline, network_hw=network_hw)
    if decode is not None:
        pipeline = replace(pipeline, max_peaks=decode.max_peaks)
    served, names = _served_model(network, pipeline, decode)
    with atomic_path(out) as temporary:
        graph = converted(served, names)
        helper.set_model_props(graph, {PIPELINE_KEY: pipeline.to_json()})
        onnx.save(graph, temporary)
        images = samples(pipeline.network_hw)
        session = onnx_session(temporary)
        ours = [np.asarray(output) for output in served.predict_on_batch(images)]
        theirs = session.run(list(names), {pipeline.pixels.name: images})
        difference = (
            _largest_field_error(ours, theirs)
            if decode is None
            else _peak_shift(ours[0], theirs[0], pipeline.grouping.min_peak_score)
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
) -> tuple[keras.Model, tuple[str, ...]]:
    pixels = keras.Input(pipeline.pixels.dims, dtype="uint8", name=pipeline.pixels.name)
    fields = Fields.of(network(pixels, training=False))
    if decode is None:
        last = fields.last_stage()
        return keras.Model(pixels, list(last.values())), tuple(last)
    decoded = decode_fields(fields, pipeline.skeleton, decode, pipeline.network_hw)
    return keras.Model(pixels, list(decoded)), (pipeline.peaks.name, pipeline.limb_scores.name)


def converted(served: keras.Model, names: Sequence[str]) -> onnx.ModelProto:
    """ONNX of a Keras model whose inputs have names: dynamic batch, float16 storage.

    Args:
        served: every side of its inputs is fixed, but for the batch.
        names: of its outputs, in their order.
    """
    import tensorflow as tf
    import tf2onnx

    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name) for tensor in served.inputs
    ]
    function = tf.function(
        lambda *inputs: served(inputs if len(inputs) > 1 else inputs[0], training=False),
        input_signature=signature,
    )
    graph, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    graph = rename_outputs(graph, names)
    for rewrite in (
        store_as_float16,
        round_scales_up,
        fold_pixel_scale,
        copy_shared_biases,
        name_by_place,
        # Behind the names, so that layers are called as in older graphs and their records.
        keep_channel_order,
    ):
        graph = rewrite(graph)
    graph.producer_name, graph.producer_version = "bodypose-triton", ""
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _largest_field_error(ours: list[Any], theirs: list[Any]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def _peak_shift(ours: Floats, theirs: Floats, min_score: float) -> float:
    """Network pixels that all but one in 100 peaks stay within of the nearest of the other side.

    Both are (B, J, P, 3). Peaks below `min_score` plus a margin are not compared, because they may
    fall on either side of grouping's threshold. The distance is infinite for a peak of a joint of
    which the other side has none.
    """
    shifts = [
        peak_gaps(one, other)[one[..., 2] >= min_score + _SCORE_MARGIN]
        for one, other in ((ours, theirs), (theirs, ours))
    ]
    return max(
        (float(np.percentile(gaps, _AGREEING, method="higher")) for gaps in shifts if gaps.size),
        default=0,
    )
