"""Taylor importance: the estimated change of the loss without a channel.

Source: Molchanov et al. 2019 (arXiv:1906.10771), equation 8 and section 3.2: importance is
(gradient x gate)² for a gate of 1 behind each channel, its mean over batches. The gradient of a
gate is that of the weights which it scales, times these weights: batch norm's factor and shift, or
a convolution's filter and bias. Here the root of the mean is given, which has the unit of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from bodypose_tools.data.coco import ImageRecord
from bodypose_tools.networks.network import heatmap_stride
from bodypose_tools.training.loss import FieldTraining
from bodypose_tools.training.setup import training_stream
from bodypose_tools.training.spec import TrainSpec

from .channel_graph import ChannelGraph, WeightedLayer
from .importance import Floats


def taylor_stats(
    network: keras.Model,
    graph: ChannelGraph,
    spec: TrainSpec,
    records: list[ImageRecord],
    num_batches: int,
) -> dict[str, Floats]:
    """Root mean square change of the loss per output channel, by layer name.

    The network is not changed. Images are `records`, with the augmentation of `spec`; the loss is
    the one of the labels, without regularisers and teachers.

    Raises:
        DatasetError: the training images are too few.
    """
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    for layer in copy.layers:
        layer.trainable = True  # frozen layers have gradients, too
    for variable in copy.trainable_variables:
        variable.regularizer = None
    recorder = GateRecorder(_gates(copy, graph))
    model = _ServedLoss(copy, spec.model.heatmap_loss)
    model.compile(optimizer=recorder, jit_compile="auto")
    recorder.build(model.trainable_variables)
    stream = training_stream(spec, records, heatmap_stride(network))
    with stream:
        model.fit(stream.batches(0), steps_per_epoch=num_batches, verbose=0, shuffle=False)
    return recorder.stats(num_batches)


class _ServedLoss(FieldTraining):
    """The loss of the network as it is served: batch norm at rest."""

    def call(self, pixels: Any, training: bool = False) -> Any:
        return self.network(pixels, training=False)


@dataclass(frozen=True, slots=True)
class _Gate:
    """A layer whose weights scale its output channels, and the axis that counts them."""

    layer: layers.Layer
    axis: int  # of its first weight; its other weights have one number per channel

    def gradient(self, scaled: Sequence[Any]) -> Any:
        """(C,) of gradient x weight, for each trainable weight of the layer."""
        total: Any = 0.0
        for tensor in scaled:
            if len(tensor.shape) == 4:
                width = tensor.shape[self.axis]
                if isinstance(self.layer, layers.DepthwiseConv2D):
                    width *= tensor.shape[-1]  # depth_multiplier outputs of a channel in a row
                else:
                    tensor = ops.moveaxis(tensor, self.axis, -1)
                tensor = ops.sum(ops.reshape(tensor, (-1, width)), axis=0)
            total = total + tensor
        return total


class GateRecorder(keras.optimizers.Optimizer):
    """Takes gradients as an optimizer does, but changes no weight: it sums up gates' squares.

    That is how one code sees gradients on every Keras backend.
    """

    def __init__(self, gates: Sequence[_Gate]) -> None:
        super().__init__(learning_rate=0.0)
        self._gates = list(gates)

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        places = {variable.path: place for place, variable in enumerate(variables)}
        self._places = [
            [places[variable.path] for variable in gate.layer.trainable_variables]
            for gate in self._gates
        ]
        self._sums = [
            self.add_variable((_num_channels(gate),), name=f"gates_{number}")
            for number, gate in enumerate(self._gates)
        ]

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        variables = (
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        grads = list(grads)
        for gate, of, total in zip(self._gates, self._places, self._sums, strict=True):
            scaled = [
                ops.cast(grads[place], "float32") * ops.convert_to_tensor(variables[place])
                for place in of
            ]
            total.assign_add(ops.square(gate.gradient(scaled)))
        self.iterations.assign_add(1)

    def stats(self, num_batches: int) -> dict[str, Floats]:
        return {
            gate.layer.name: np.sqrt(ops.convert_to_numpy(total).astype(np.float64) / num_batches)
            for gate, total in zip(self._gates, self._sums, strict=True)
        }


def _gates(network: keras.Model, graph: ChannelGraph) -> list[_Gate]:
    """The layers that scale channels last: batch norms, and convolutions that none follows."""
    gates, normed = [], set()
    for weighted in reversed(list(graph.weighted.values())):
        layer, channels = network.get_layer(weighted.name), weighted.outputs.tobytes()
        if weighted.kind is layers.BatchNormalization:
            if layer.scale:
                normed.add(channels)
                gates.append(_Gate(layer, 0))
        elif channels not in normed:
            gates.append(_Gate(layer, _axis(weighted)))
    return gates


def _axis(weighted: WeightedLayer) -> int:
    return 2 if weighted.kind is layers.DepthwiseConv2D else weighted.filter_axis


def _num_channels(gate: _Gate) -> int:
    shape = gate.layer.trainable_variables[0].shape
    if isinstance(gate.layer, layers.DepthwiseConv2D):
        return int(shape[2] * shape[3])
    return int(shape[gate.axis])
