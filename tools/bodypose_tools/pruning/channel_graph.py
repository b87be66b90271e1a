"""Channels of a network that must be cut together, and the cost of the ones that stay.

A *channel* here is cut or kept as one, wherever it appears: the filters of two convolutions whose
outputs are added are one channel, and so are their outputs after batch norm, depthwise convolutions
and concatenations. Channels are numbered from 0; a tensor's last axis is an array
of such numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from bodypose_tools.networks.resizing import InCellsOf, LargerCopy
from pose_runtime.errors import PoseError

Ints = NDArray[np.int64]
Keep = NDArray[np.bool_]  # one entry per channel: does it stay?

_CHANNEL_BY_CHANNEL = (
    layers.Activation,
    layers.AveragePooling2D,
    layers.Cropping2D,
    layers.Dropout,
    layers.ELU,
    layers.GlobalAveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.Identity,
    layers.LeakyReLU,
    layers.MaxPooling2D,
    layers.ReLU,
    layers.Rescaling,
    layers.SpatialDropout2D,
    layers.UpSampling2D,
    layers.ZeroPadding2D,
    LargerCopy,
)
_ELEMENT_WISE = (
    layers.Add,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    layers.Multiply,
    layers.Subtract,
)
_FILTERS = (layers.Conv2D, layers.Conv2DTranspose)
_CUTTABLE = (*_FILTERS, layers.DepthwiseConv2D, layers.BatchNormalization)
_KNOWN = (*_CUTTABLE, *_CHANNEL_BY_CHANNEL, *_ELEMENT_WISE, layers.Concatenate, InCellsOf)
# Activations that mix channels, so that no channel can leave alone.
_MIXING_ACTIVATIONS = {"softmax", "log_softmax", "glu", "sparsemax"}


class UnknownLayerError(PoseError):
    """A layer whose channels cannot be traced."""


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One use of a layer; a shared layer has several."""

    layer: str
    outputs: Ints  # channels of its output
    cells: (
        int  # how often a kernel is applied: height x width of its output, or input if transposed
    )


@dataclass(frozen=True, slots=True)
class WeightedLayer:
    """A layer with weights, and which axis of which weight is indexed by which channels."""

    name: str
    kind: type[layers.Layer]
    inputs: Ints
    outputs: Ints
    shapes: tuple[tuple[int, ...], ...]  # of its weights, in Keras' order
    axes: tuple[Mapping[int, Ints], ...]  # per weight: axis -> channels along it

    @property
    def makes_channels(self) -> bool:
        """Whether its filters are the channels of its output."""
        return self.kind in _FILTERS

    @property
    def filter_axis(self) -> int:
        """The axis of the first weight that counts the output channels, of a layer that has any."""
        return next(axis for axis, of in self.axes[0].items() if of is self.outputs)

    def cut(self, weights: Sequence[NDArray[Any]], keep: Keep) -> list[NDArray[Any]]:
        """The weights without those of the channels that leave."""
        kept = []
        for weight, axes in zip(weights, self.axes, strict=True):
            for axis, channels in axes.items():
                weight = np.compress(keep[channels], weight, axis=axis)
            kept.append(weight)
        return kept

    def sizes(self, keep: Keep) -> list[int]:
        """How many numbers each weight has left."""
        return [
            math.prod(
                int(keep[axes[axis]].sum()) if axis in axes else length
                for axis, length in enumerate(shape)
            )
            for shape, axes in zip(self.shapes, self.axes, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class ChannelGraph:
    """The channels of a network and the layers that use them."""

    num_channels: int
    protected: Keep  # what must stay: inputs, outputs, and what no rule can cut
    weighted: Mapping[str, WeightedLayer]  # by name, in the order of the graph
    calls: tuple[LayerCall, ...]  # of every layer, in the order of the graph

    @property
    def producers(self) -> list[WeightedLayer]:
        """The convolutions whose filters are the channels."""
        return [layer for layer in self.weighted.values() if layer.makes_channels]

    def keep_all(self) -> Keep:
        """A choice that keeps every channel."""
        return np.ones(self.num_channels, bool)

    def count_params(self, keep: Keep) -> int:
        """Parameters of the network with the channels of `keep`."""
        return sum(sum(layer.sizes(keep)) for layer in self.weighted.values())

    def count_macs(self, keep: Keep) -> int:
        """Multiply-accumulates of all convolutions, for the input size it was traced with."""
        total = 0
        for call in self.calls:
            layer = self.weighted.get(call.layer)
            if layer is not None and layer.kind is not layers.BatchNormalization:
                total += call.cells * layer.sizes(keep)[0]
        return total


def trace_channels(model: keras.Model, network_hw: tuple[int, int]) -> ChannelGraph:
    """Follow every channel through a functional model, for images of `network_hw` pixels.

    Raises:
        UnknownLayerError: naming the layer and its class.
    """
    tracer = _Tracer()
    pixels = keras.tree.map_structure(
        lambda x: keras.Input((*network_hw, x.shape[-1]), dtype=x.dtype), model.input
    )
    for tensor in keras.tree.flatten(pixels):
        tracer.protect(tracer.enter(tensor))

    # A copy of the graph is built only to trace it: every call of a layer goes through `follow`.
    copy = keras.models.clone_model(
        model, input_tensors=pixels, clone_function=_checked_clone, call_function=tracer.follow
    )
    for tensor in copy.outputs:
        tracer.protect(tracer.channels_of(tensor))
    return tracer.graph()


def rebuild(model: keras.Model, graph: ChannelGraph, keep: Keep) -> keras.Model:
    """The same functional model without the channels that leave; weights are copied, unscaled."""
    widths = {layer.name: int(keep[layer.outputs].sum()) for layer in graph.producers}

    def clone(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        if layer.name in widths:
            config["filters"] = widths[layer.name]
        return layer.__class__.from_config(config)

    pruned = keras.models.clone_model(model, clone_function=clone)
    for name, layer in graph.weighted.items():
        pruned.get_layer(name).set_weights(layer.cut(model.get_layer(name).get_weights(), keep))
    return pruned


def _checked_clone(layer: layers.Layer) -> layers.Layer:
    kind = type(layer)
    if kind not in _KNOWN:
        names = ", ".join(sorted(known.__name__ for known in _KNOWN))
        raise UnknownLayerError(
            f"{layer.name}: expected a layer whose channels can be followed ({names}),"
            f" got {kind.__name__}"
        )
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if activation in _MIXING_ACTIVATIONS or not hasattr(keras.activations, activation):
        raise UnknownLayerError(
            f"{layer.name}: expected an activation that treats each channel by itself,"
            f" got {activation}"
        )
    last_axis = kind not in (layers.BatchNormalization, layers.Concatenate) or layer.axis in (-1, 3)
    if getattr(layer, "data_format", "channels_last") != "channels_last" or not last_axis:
        raise UnknownLayerError(f"{layer.name}: expected channels in the last axis, got another")
    return kind.from_config(layer.get_config())


class _Tracer:
    """Union-find over the channels of every tensor, filled call by call."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._protected: set[int] = set()
        self._tensors: dict[int, tuple[Any, Ints]] = {}  # the tensor is held, so its id is its own
        self._inputs: dict[str, Ints] = {}
        self._outputs: dict[str, Ints] = {}
        self._layers: dict[str, layers.Layer] = {}
        self._calls: list[LayerCall] = []

    def enter(self, tensor: Any) -> Ints:
        """Give a new tensor channels of its own."""
        return self._set(tensor, self._fresh(tensor.shape[-1]))

    def channels_of(self, tensor: Any) -> Ints:
        return self._tensors[id(tensor)][1]

    def protect(self, channels: Iterable[int]) -> None:
        self._protected.update(int(channel) for channel in channels)

    def follow(self, layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        """Call the layer, and note what its output channels are made of."""
        output = layer(*args, **kwargs)
        inputs = [
            self.channels_of(tensor)
            for tensor in keras.tree.flatten((args, kwargs))
            if isinstance(tensor, keras.KerasTensor)
        ]
        channels = self._channels_after(layer, inputs, output.shape[-1])
        self._set(output, channels)
        transposed = isinstance(layer, layers.Conv2DTranspose)
        cells = math.prod((args[0] if transposed else output).shape[1:-1])
        self._calls.append(LayerCall(layer.name, channels, cells))
        return output

    def graph(self) -> ChannelGraph:
        roots = np.array([self._root(channel) for channel in range(len(self._parent))], np.int64)
        _, numbers = np.unique(roots, return_inverse=True)
        protected = np.zeros(numbers.max() + 1, bool)
        protected[[numbers[channel] for channel in self._protected]] = True
        weighted = {
            name: _weighted(layer, numbers[self._inputs[name]], numbers[self._outputs[name]])
            for name, layer in self._layers.items()
        }
        calls = tuple(LayerCall(c.layer, numbers[c.outputs], c.cells) for c in self._calls)
        return ChannelGraph(len(protected), protected, weighted, calls)

    def _channels_after(self, layer: layers.Layer, inputs: list[Ints], width: int) -> Ints:
        if isinstance(layer, layers.Concatenate):
            return np.concatenate(inputs)
        if isinstance(layer, _ELEMENT_WISE):
            return self._merge(inputs)
        if isinstance(layer, InCellsOf):
            return inputs[0]
        (channels,) = inputs
        if isinstance(layer, _CUTTABLE):
            return self._weighted_call(layer, channels, width)
        if isinstance(layer, layers.Rescaling) and np.size(layer.scale) + np.size(layer.offset) > 2:
            self.protect(channels)  # one factor per channel, kept in the layer's configuration
        return channels

    def _weighted_call(self, layer: layers.Layer, channels: Ints, width: int) -> Ints:
        first = self._inputs.setdefault(layer.name, channels)
        self._unite(first, channels)  # a shared layer has one kernel for all that it is given
        self._layers[layer.name] = layer
        if not isinstance(layer, _FILTERS):
            # depth_multiplier outputs in a row come from one input
            return self._outputs.setdefault(layer.name, np.repeat(first, width // len(first)))
        if layer.name not in self._outputs:
            self._outputs[layer.name] = self._fresh(width)
            if getattr(layer, "groups", 1) > 1:
                self.protect([*channels, *self._outputs[layer.name]])
        return self._outputs[layer.name]

    def _merge(self, inputs: list[Ints]) -> Ints:
        width = max(map(len, inputs))
        wide = [channels for channels in inputs if len(channels) == width]
        for channels in inputs:
            if len(channels) < width:
                self.protect(channels)  # one channel that is broadcast to all
        for channels in wide[1:]:
            self._unite(wide[0], channels)
        return wide[0]

    def _fresh(self, count: int) -> Ints:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def _set(self, tensor: Any, channels: Ints) -> Ints:
        self._tensors[id(tensor)] = (tensor, channels)
        return channels

    def _root(self, channel: int) -> int:
        while self._parent[channel] != channel:
            self._parent[channel] = self._parent[self._parent[channel]]
            channel = self._parent[channel]
        return channel

    def _unite(self, some: Ints, others: Ints) -> None:
        for one, other in zip(some, others, strict=True):
            self._parent[self._root(int(other))] = self._root(int(one))


def _weighted(layer: layers.Layer, inputs: Ints, outputs: Ints) -> WeightedLayer:
    shapes = tuple(tuple(weight.shape) for weight in layer.weights)
    axes: list[dict[int, Ints]] = [{0: outputs} for _ in shapes]  # a bias, or batch norm's vectors
    if isinstance(layer, layers.DepthwiseConv2D):
        axes[0] = {2: inputs}
    elif isinstance(layer, layers.Conv2DTranspose):
        axes[0] = {2: outputs, 3: inputs}
    elif isinstance(layer, layers.Conv2D):
        axes[0] = {3: outputs} if layer.groups > 1 else {2: inputs, 3: outputs}
    return WeightedLayer(layer.name, type(layer), inputs, outputs, shapes, tuple(axes))


def count_macs(model: keras.Model, network_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of all convolutions for one image of `network_hw` pixels."""
    graph = trace_channels(model, network_hw)
    return graph.count_macs(graph.keep_all())
