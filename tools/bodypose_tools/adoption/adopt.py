"""A foreign network between our pixels and our decoding layers, in one graph that is served."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from bodypose_tools.export.decoding_graph import decoding_graph
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.graphs.contract import PIPELINE_KEY, OnnxError, spec_in_onnx
from bodypose_tools.graphs.node_names import BATCH, name_by_place
from bodypose_tools.graphs.storage import rename_outputs
from bodypose_tools.networks.decoding import DecodeSettings
from bodypose_tools.runtimes.cpu import onnx_session
from bodypose_tools.runtimes.peaks import peak_gaps
from pose_runtime.spec import PipelineSpec

from .foreign_graph import (
    AdoptionError,
    FieldsOutput,
    ForeignNetwork,
    NetworkInput,
    opset_of,
    stride_of,
)
from .settings import Colours, Convention, Layout

_OURS = "adopted/"  # begins names that no foreign graph has
_MIN_IR = 8
# Between an image alone and in a batch: network pixels that a peak moves, and of its score.
_MAX_SHIFT, _MAX_SCORE_GAP = 0.5, 0.02

Floats = NDArray[np.float32]


def adopt(
    source: Path,
    network: ForeignNetwork,
    convention: Convention,
    pipeline: PipelineSpec,
    out: Path,
    samples: Callable[[tuple[int, int]], NDArray[np.uint8]],
) -> Artifact:
    """Write the graph that `tools build-repo` serves.

    Args:
        source: the foreign file, for the record.
        network: the graph in it.
        convention: as it was opened with.
        pipeline: skeleton, thresholds and number of peaks; the input's size is the network's.
        out: ONNX file to write.
        samples: makes images (B, H, W, 3) uint8 of the size given, on which the graph is tried.

    Raises:
        AdoptionError: the convention leaves open how pixels are scaled, or the graph does not treat
            the images of a batch each by itself; nothing was written.
    """
    shapes = {kind: (len(o.channels), *o.shape[1:]) for kind, o in network.outputs.items()}
    decode = DecodeSettings(max_peaks=pipeline.max_peaks)
    graph = _joined(
        fields_graph(network, convention), decoding_graph(pipeline, decode, shapes), pipeline
    )
    parent = Artifact.open(source)
    with atomic_path(out) as temporary:
        onnx.save(graph, temporary)
        try:
            spec_in_onnx(temporary)
        except OnnxError as error:
            raise AdoptionError(str(error).replace(str(temporary), str(out))) from error
        images = samples(pipeline.network_hw)
        _check_batches(temporary, images, pipeline)
    settings = {
        "convention": asdict(convention),
        "pipeline": json.loads(pipeline.to_json()),
        "strides": {
            kind: stride_of(o.shape[1:], pipeline.network_hw) for kind, o in network.outputs.items()
        },
    }
    return Artifact.record(out, "adopt", parent, settings=settings)


def fields_graph(network: ForeignNetwork, convention: Convention) -> onnx.ModelProto:
    """The foreign graph from `adopted/pixels`, RGB uint8 (B, H, W, 3), to our channels.

    Outputs are `adopted/heatmaps` (B, J, h, w), `adopted/affinity` (B, 2L, h', w') and, where the
    network has them, `adopted/centre` and `adopted/offsets`, all float32.

    Raises:
        AdoptionError: the convention leaves open how pixels are scaled.
    """
    model = onnx.ModelProto()
    model.CopyFrom(network.model)
    glue = _Glue()
    before = _pixels_to_input(glue, network.input, convention)
    after: list[onnx.NodeProto] = []
    outputs = []
    for kind, output in network.outputs.items():
        nodes = _output_to_fields(glue, model, kind, output)
        after += nodes
        shape = [BATCH, len(output.channels), *output.shape[1:]]
        outputs.append(helper.make_tensor_value_info(f"{_OURS}{kind}", TensorProto.FLOAT, shape))
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    pixels = [BATCH, *network.input.network_hw, 3]
    model.graph.input.append(
        helper.make_tensor_value_info(f"{_OURS}pixels", TensorProto.UINT8, pixels)
    )
    model.graph.output.extend(outputs)
    model.graph.initializer.extend(glue.constants)
    model.ir_version = max(model.ir_version, _MIN_IR)
    del model.metadata_props[:]
    return model


class _Glue:
    """Makes nodes and constants whose names no foreign graph has."""

    def __init__(self) -> None:
        self.constants: list[onnx.TensorProto] = []
        self._count = 0

    def constant(self, values: Any) -> str:
        name = f"{_OURS}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
        self._count += 1
        name = f"{_OURS}{kind}_{self._count}"
        return helper.make_node(kind, list(inputs), [name], name, **attributes)


def _pixels_to_input(
    glue: _Glue, source: NetworkInput, convention: Convention
) -> list[onnx.NodeProto]:
    nodes: list[onnx.NodeProto] = []

    def last() -> str:
        return nodes[-1].output[0] if nodes else f"{_OURS}pixels"

    if convention.colours is None:
        raise AdoptionError("expected --colours rgb or bgr: the graph does not tell")
    if not source.is_pixels:
        # TensorRT accepts uint8 as the input of a Cast and of no other operator.
        nodes.append(glue.node("Cast", last(), to=TensorProto.FLOAT))
    if convention.colours is Colours.BGR:
        reverse = glue.constant(np.array([2, 1, 0], np.int64))
        nodes.append(glue.node("Gather", last(), reverse, axis=3))
    if source.is_pixels:
        if convention.mean is not None or convention.std is not None:
            raise AdoptionError(
                f"--mean and --std: expected none, because {source.name} takes uint8 pixels"
            )
    else:
        if convention.mean is None or convention.std is None:
            raise AdoptionError(
                "expected --mean and --std: the network's input is (pixel - mean) / std with pixels"
                " 0..255, and the graph does not tell"
            )
        scale = 1 / np.array(convention.std, np.float64)
        offset = -np.array(convention.mean, np.float64) * scale
        for kind, values in (("Mul", scale), ("Add", offset)):
            constant = np.broadcast_to(values, 3) if values.size == 3 else values
            nodes.append(glue.node(kind, last(), glue.constant(constant.astype(np.float32))))
    if source.layout is Layout.NCHW:
        nodes.append(glue.node("Transpose", last(), perm=[0, 3, 1, 2]))
    if source.dtype == TensorProto.FLOAT16:
        nodes.append(glue.node("Cast", last(), to=TensorProto.FLOAT16))
    if not nodes:
        nodes.append(glue.node("Identity", last()))
    nodes[-1].output[0] = source.name
    return nodes


def _output_to_fields(
    glue: _Glue, model: onnx.ModelProto, kind: str, output: FieldsOutput
) -> list[onnx.NodeProto]:
    name, nodes = output.name, []
    maker = next(node for node in model.graph.node if name in node.output)
    if output.layout is Layout.NHWC:
        perm = next((list(a.ints) for a in maker.attribute if a.name == "perm"), None)
        if maker.op_type == "Transpose" and perm == [0, 2, 3, 1]:
            name = maker.input[0]  # the network has them as we need them
        else:
            nodes.append(glue.node("Transpose", name, perm=[0, 3, 1, 2]))

    def add(kind: str, *inputs: str, **attributes: Any) -> None:
        nodes.append(glue.node(kind, nodes[-1].output[0] if nodes else name, *inputs, **attributes))

    if output.dtype == TensorProto.FLOAT16:
        add("Cast", to=TensorProto.FLOAT)
    if output.channels != tuple(range(output.shape[0])):
        add("Gather", glue.constant(np.array(output.channels, np.int64)), axis=1)
    if output.signs:
        add("Mul", glue.constant(np.array(output.signs, np.float32).reshape(1, -1, 1, 1)))
    if not nodes:
        add("Identity")
    nodes[-1].output[0] = f"{_OURS}{kind}"
    return nodes


def _joined(
    fields: onnx.ModelProto, decoding: onnx.ModelProto, pipeline: PipelineSpec
) -> onnx.ModelProto:
    opset = opset_of(fields)
    if opset > opset_of(decoding):
        try:
            decoding = onnx.version_converter.convert_version(decoding, opset)
        except (RuntimeError, ValueError) as error:
            raise AdoptionError(
                f"expected an opset that ONNX converts our decoding layers to, got {opset}; export"
                f" the network again with opset {opset_of(decoding)}"
            ) from error
    decoding = compose.add_prefix(decoding, f"{_OURS}decoding/")
    inputs = {each.name: each.name.replace("decoding/", "") for each in decoding.graph.input}
    joined = onnx.ModelProto()
    joined.CopyFrom(fields)
    for node in decoding.graph.node:
        node.input[:] = [inputs.get(name, name) for name in node.input]
        joined.graph.node.append(node)
    joined.graph.initializer.extend(decoding.graph.initializer)
    del joined.graph.output[:]
    joined.graph.output.extend(decoding.graph.output)
    known = {entry.domain for entry in joined.opset_import}
    joined.opset_import.extend(e for e in decoding.opset_import if e.domain not in known)
    joined.graph.name = "adopted"
    joined.producer_name, joined.producer_version = "bodypose-triton", ""
    joined = rename_outputs(
        _with_input_named(name_by_place(joined), pipeline.pixels.name),
        (pipeline.peaks.name, pipeline.limb_scores.name),
    )
    helper.set_model_props(joined, {PIPELINE_KEY: pipeline.to_json()})
    return joined


def _with_input_named(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The graph, changed in place, whose only input has another name."""
    (value,) = model.graph.input
    for node in model.graph.node:
        node.input[:] = [name if read == value.name else read for read in node.input]
    value.name = name
    return model


def _check_batches(path: Path, images: NDArray[np.uint8], pipeline: PipelineSpec) -> None:
    """Refuse graphs that fail for several images, or whose answers depend on the others."""
    if len(images) == 1:
        images = np.concatenate([images, images[:, :, ::-1]])
    advice = "export the network again with a batch of any size (dynamic axes)"
    session = onnx_session(path)
    try:
        together = session.run(None, {pipeline.pixels.name: images})[0]
    except Exception as error:  # ONNX Runtime's own errors have no common base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise AdoptionError(
            f"expected a graph for batches of any size, got one that fails for {len(images)}"
            f" images ({reason}); {advice}"
        ) from error
    for row, image in enumerate(images):
        alone = session.run(None, {pipeline.pixels.name: image[None]})[0][0]
        if not np.isfinite(alone).all():
            raise AdoptionError(
                "expected finite fields, got NaN or infinity on a sample image; --mean and --std"
                " may be wrong, or float16 too small for the network"
            )
        sure = together[row][..., 2] >= pipeline.grouping.min_peak_score + _MAX_SCORE_GAP
        stays = (peak_gaps(together[row], alone)[sure] <= _MAX_SHIFT).all()
        scores = np.abs(together[row][..., 2] - alone[..., 2])
        if not (stays and scores.max() <= _MAX_SCORE_GAP):
            raise AdoptionError(
                "expected the same peaks for an image alone and in a batch, got others; " + advice
            )
