"""The decoding layers as an ONNX graph of their own, for fields that another graph computes."""

from __future__ import annotations

from collections.abc import Mapping

import keras
import onnx
from keras import ops

from bodypose_tools.networks.decoding import DecodeSettings, decode_fields
from bodypose_tools.networks.fields import Fields
from pose_runtime.spec import PipelineSpec

from .onnx_from_keras import check_backend, converted


def decoding_graph(
    pipeline: PipelineSpec, decode: DecodeSettings, shapes: Mapping[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """The graph from fields to `peaks` and `limb_scores`.

    Args:
        pipeline: skeleton, input size and number of peaks.
        decode: settings of the layers.
        shapes: (C, h, w) of `heatmaps`, `affinity` and, together, `centre` and `offsets`, which
            are the graph's inputs (B, C, h, w); channels as `Fields` describes.

    Raises:
        ExportError: Keras does not run on TensorFlow.
    """
    check_backend()
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    last = {name: ops.transpose(tensor, (0, 2, 3, 1)) for name, tensor in inputs.items()}
    fields = Fields(
        (last["heatmaps"],), (last["affinity"],), last.get("centre"), last.get("offsets")
    )
    decoded = decode_fields(fields, pipeline.skeleton, decode, pipeline.network_hw)
    served = keras.Model(tuple(inputs.values()), list(decoded))
    return converted(served, (pipeline.peaks.name, pipeline.limb_scores.name))
