"""A foreign graph between our pixels and our channels: scaled and ordered as each side expects."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bodypose_tools.graphs.node_names import BATCH

from .foreign_graph import OURS, AdoptionError, FieldsOutput, ForeignNetwork, NetworkInput
from .settings import Colours, Convention, Layout

_MIN_IR: Final = 8


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
        outputs.append(helper.make_tensor_value_info(f"{OURS}{kind}", TensorProto.FLOAT, shape))
    if not before:  # no node between: TensorRT takes none for uint8 but a Cast
        for node in model.graph.node:
            read = [f"{OURS}pixels" if name == network.input.name else name for name in node.input]
            node.input[:] = read
    nodes = [*before, *model.graph.node, *after]
    del model.graph.node[:], model.graph.input[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    pixels = [BATCH, *network.input.network_hw, 3]
    model.graph.input.append(
        helper.make_tensor_value_info(f"{OURS}pixels", TensorProto.UINT8, pixels)
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
        name = f"{OURS}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
        self._count += 1
        name = f"{OURS}{kind}_{self._count}"
        return helper.make_node(kind, list(inputs), [name], name, **attributes)


def _pixels_to_input(
    glue: _Glue, source: NetworkInput, convention: Convention
) -> list[onnx.NodeProto]:
    nodes: list[onnx.NodeProto] = []

    def last() -> str:
        return nodes[-1].output[0] if nodes else f"{OURS}pixels"

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
    if nodes:
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
    nodes[-1].output[0] = f"{OURS}{kind}"
    return nodes
