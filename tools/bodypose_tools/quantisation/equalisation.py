"""The pass of cross-layer equalisation: channels of an activation get similar ranges.

INT8 has one scale per activation tensor, so a channel with a hundredth of its tensor's range keeps
one or two of the 127 levels. Where only convolutions make a channel and only
convolutions read it, dividing its makers' weights and biases and multiplying its readers' weights
by the same factor changes nothing but that range. Factors are powers of two, so float32 results
stay the same bit for bit.

Convolutions that share their weights share the factors of both sides, so that they still do.

A channel is followed through additions (residual streams: every maker and reader of the stream
shares the factor), concatenations (channel by channel) and functions with f(a x) = a f(x) for
a > 0. A channel that anything else reads, such as a ReLU6's clip or a sigmoid, keeps its range.

Sources: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.1 (arXiv:1906.04721), for the equality; Xiao et al. 2022, "SmoothQuant"
(arXiv:2211.10438), equation 4, for the factors: weights have a scale per output channel here, so
the factors follow a channel's activations and not the weights that make it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.graphs.index import CONVOLUTIONS, OnnxGraph, attribute, replace_nodes

if TYPE_CHECKING:
    import onnx

# f(a x) = a f(x) for a > 0, channel by channel.
_HOMOGENEOUS = frozenset(
    ["Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Resize"]
)
_ELEMENTWISE = frozenset(["Clip", "Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Elu"])
_MIN_SHARE = 2.0**-10  # of a tensor's range: a channel's range counts as at least this
_ACTIVATIONS_SHARE = 0.75  # of a channel's range that it gives up; see `equalise`

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(slots=True)
class Channels:
    """Which channels of a graph's tensors must be scaled alike: those with the same number."""

    of: dict[str, Ints] = field(default_factory=dict)  # by tensor: the number of each channel
    fixed: set[int] = field(default_factory=set)  # numbers that may not be scaled
    parent: list[int] = field(default_factory=list)

    def make(self, tensor: str, count: int) -> None:
        """Give each of `count` channels of a tensor a number of its own."""
        first = len(self.parent)
        self.parent += range(first, first + count)
        self.of[tensor] = np.arange(first, first + count)

    def join(self, one: Ints, other: Ints) -> None:
        """Scale the channels `one` and `other` alike, pair by pair."""
        for a, b in zip(one, other, strict=True):
            self.parent[self._root(int(b))] = self._root(int(a))

    def fix(self, names: Iterable[str]) -> None:
        """Keep all channels of these tensors as they are."""
        for name in names:
            self.fixed.update(self.of.get(name, np.zeros(0, np.int64)).tolist())

    def resolve(self) -> None:
        """Replace every number by that of its group."""
        roots = np.array([self._root(number) for number in range(len(self.parent))], np.int64)
        self.of = {name: roots[numbers] for name, numbers in self.of.items()}
        self.fixed = {int(roots[number]) for number in self.fixed}

    def _root(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number


def channels_of(graph: OnnxGraph) -> Channels:
    """Follow every channel from the convolution that makes it to all that read it."""
    channels = Channels()
    first: dict[str, onnx.NodeProto] = {}  # by weights: the first convolution with them
    for node in graph.nodes:
        known = [channels.of.get(name) for name in node.input]
        if _is_scalable(graph, node):
            channels.make(node.output[0], _count(graph, node))
            _scale_alike(channels, first.setdefault(node.input[1], node), node)
        elif node.op_type == "Concat" and attribute(node, "axis", 0) == 1 and _all_known(known):
            channels.of[node.output[0]] = np.concatenate(known)
        elif node.op_type == "Add" and _all_known(known) and len(known[0]) == len(known[1]):
            channels.join(known[0], known[1])
            channels.of[node.output[0]] = known[0]
        elif known and known[0] is not None and _keeps_channels(node):
            channels.of[node.output[0]] = known[0]
            if node.op_type in _ELEMENTWISE:
                channels.fix(node.input[:1])
        else:
            channels.fix(node.input)
    channels.fix(graph.outputs)
    channels.resolve()
    return channels


def _scale_alike(channels: Channels, one: onnx.NodeProto, other: onnx.NodeProto) -> None:
    """Give two convolutions with the same weights the same factors on both sides."""
    channels.join(channels.of[one.output[0]], channels.of[other.output[0]])
    read = [channels.of.get(node.input[0]) for node in (one, other)]
    if _all_known(read):
        channels.join(read[0], read[1])
    else:
        channels.fix([one.input[0], other.input[0]])


def _all_known(known: list[Ints | None]) -> TypeGuard[list[Ints]]:
    return bool(known) and all(numbers is not None for numbers in known)


def _keeps_channels(node: onnx.NodeProto) -> bool:
    if node.op_type == "Resize":
        # The only mode that pads with a constant.
        return attribute(node, "coordinate_transformation_mode", b"") != b"tf_crop_and_resize"
    return node.op_type in _HOMOGENEOUS | _ELEMENTWISE


def _is_scalable(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    """A convolution whose weights can take a factor per channel on either side."""
    if node.op_type not in CONVOLUTIONS or not graph.is_weighted(node):
        return False
    if any(not graph.is_constant(name) for name in node.input[2:]):
        return False
    return attribute(node, "group", 1) == 1 or _is_depthwise(graph, node)


def _is_depthwise(graph: OnnxGraph, node: onnx.NodeProto) -> bool:
    shape = graph.constant(node.input[1]).shape
    return bool(node.op_type == "Conv" and attribute(node, "group", 1) == shape[0] > shape[1] == 1)


def _count(graph: OnnxGraph, node: onnx.NodeProto) -> int:
    return int(graph.constant(node.input[1]).shape[_axes(graph, node)[1]])


def _axes(graph: OnnxGraph, node: onnx.NodeProto) -> tuple[int, int]:
    """Axes of the weights along which the input's and the output's channels lie."""
    if _is_depthwise(graph, node):
        return 0, 0
    return (0, 1) if node.op_type == "ConvTranspose" else (1, 0)


# ------------------------------------------------------------------------------------- ranges


def channel_ranges(
    names: Sequence[str],
    activations: Callable[[NDArray[np.uint8]], Sequence[Floats]],
    images: Iterable[NDArray[np.uint8]],
) -> dict[str, Floats]:
    """Largest absolute value of every channel: by tensor, (channels,).

    Args:
        names: of tensors (B, channels, ...).
        activations: runs one image, and returns the values of these tensors.
        images: each (H, W, 3).
    """
    ranges: dict[str, Floats] = {}
    for image in images:
        for name, values in zip(names, activations(image), strict=True):
            others = tuple(axis for axis in range(values.ndim) if axis != 1)
            largest = np.abs(values).max(axis=others)
            ranges[name] = np.maximum(ranges.get(name, largest), largest)
    return ranges


def scalable_tensors(model: onnx.ModelProto, tensors: Collection[str]) -> list[str]:
    """The `tensors` whose channels can be followed, and so must be measured."""
    known = channels_of(OnnxGraph(model)).of
    return [name for name in tensors if name in known]


# ------------------------------------------------------------------------------------ factors


def factors_of(
    graph: OnnxGraph, channels: Channels, ranges: Mapping[str, Floats], share: float
) -> Floats:
    """The divisor of every channel, by its number: a power of two; 1 for channels that stay.

    The ranges of a stream's channels approach the largest of them; where a concatenation joins the
    stream with others, which then share a scale, the range of the channels that must stay.
    """
    reach = np.zeros(len(channels.parent), np.float32)
    for name, values in ranges.items():
        np.maximum.at(reach, channels.of[name], values)
    weights = _reader_weights(graph, channels)
    free = np.ones(len(reach), bool)
    free[list(channels.fixed)] = False
    factors = np.ones(len(reach), np.float32)
    meetings = [
        channels.of[node.output[0]]
        for node in graph.nodes
        if node.op_type == "Concat" and node.output[0] in channels.of
    ]
    for stream in _streams(graph, channels):
        if not free[stream].all() or not reach[stream].any():
            continue
        largest = reach[stream].max()
        floor = np.maximum(reach[stream], largest * _MIN_SHARE)
        made = floor**share / np.where(weights[stream] > 0, weights[stream], 1) ** (1 - share)
        if not (weights[stream] > 0).all():  # read by depthwise convolutions only: no trade
            made = floor
        for met in (met for met in meetings if np.isin(stream, met).any()):
            stays = met[~free[met]]
            largest = max(reach[stays if len(stays) else met].max(), largest * _MIN_SHARE)
        made *= (floor / made).max() / largest
        factors[stream] = 2.0 ** np.rint(np.log2(made))
    return factors


def _reader_weights(graph: OnnxGraph, channels: Channels) -> Floats:
    """The largest weight that reads a channel, by its number; depthwise readers do not count."""
    largest = np.zeros(len(channels.parent), np.float32)
    for node in graph.nodes:
        numbers = channels.of.get(node.input[0]) if node.input else None
        if numbers is None or not _is_scalable(graph, node) or _is_depthwise(graph, node):
            continue
        axis = _axes(graph, node)[0]
        weights = np.moveaxis(np.abs(graph.constant(node.input[1])), axis, 0)
        np.maximum.at(largest, numbers, weights.reshape(len(numbers), -1).max(axis=1))
    return largest


def _streams(graph: OnnxGraph, channels: Channels) -> list[Ints]:
    """The distinct sets of numbers that convolutions make."""
    made = {
        tuple(channels.of[node.output[0]].tolist()): None
        for node in graph.nodes
        if node.output and node.output[0] in channels.of and _is_scalable(graph, node)
    }
    return [np.array(numbers) for numbers in made]


def equalise(
    model: onnx.ModelProto, ranges: Mapping[str, Floats], share: float = _ACTIVATIONS_SHARE
) -> onnx.ModelProto:
    """The graph with similar ranges for all channels that only convolutions make and read.

    Args:
        model: from `placement.prepare`.
        ranges: of the tensors that will be quantised, from `channel_ranges`.
        share: exponent of the range in a factor; below 1, a part of the range stays in the
            activations and does not move into the weights that read them.
    """
    from onnx import numpy_helper

    equalised = deepcopy(model)
    graph = OnnxGraph(equalised)
    channels = channels_of(graph)
    factors = factors_of(graph, channels, ranges, share)
    stored: list[onnx.TensorProto] = []

    def store(name: str, values: NDArray[Any]) -> str:
        stored.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    for node in graph.nodes:
        if not _is_scalable(graph, node):
            continue
        weights = graph.constant(node.input[1])
        before = _factors_at(factors, channels, node.input[0], _count_read(graph, node))
        after = _factors_at(factors, channels, node.output[0], _count(graph, node))
        if np.all(before == 1) and np.all(after == 1):
            continue
        read, made = _axes(graph, node)
        scaled = weights * _along(read, before, weights.ndim) / _along(made, after, weights.ndim)
        bias = [graph.constant(name) / after for name in node.input[2:]]
        node.input[1] = store(f"{node.name}_equalised_weights", scaled)
        for index, values in enumerate(bias, start=2):
            node.input[index] = store(f"{node.name}_equalised_bias", values)
    replace_nodes(equalised, graph.nodes, stored)
    return equalised


def _count_read(graph: OnnxGraph, node: onnx.NodeProto) -> int:
    return int(graph.constant(node.input[1]).shape[_axes(graph, node)[0]])


def _factors_at(factors: Floats, channels: Channels, tensor: str, count: int) -> Floats:
    numbers = channels.of.get(tensor)
    return np.ones(count, np.float32) if numbers is None else factors[numbers]


def _along(axis: int, values: Floats, ndim: int) -> Floats:
    return values.reshape([-1 if i == axis else 1 for i in range(ndim)])
