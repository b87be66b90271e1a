"""Owns what a network is trained to do: the loss over its stages, with or without a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
from keras import ops

from .fields import Fields
from .labels import STRIDE
from .samples import Targets
from .teaching import Teacher, resized

_LEAST_PROBABILITY = 1e-6
_UNKNOWN_WEIGHT = 0.1  # of cells that may hold a joint without a label
_LEAST_SIZE = 4.0  # cells; below it a person's offsets weigh no more
# A teacher's offsets: from which `centre` on, and how much each of about ten cells of a middle.
_LEAST_CENTRE = 0.1
_OFFSET_SHARE = 0.1


def field_loss(target: Targets, said: Fields) -> Any:
    """Half the masked error, summed over cells, channels and stages, mean over images.

    Part affinity fields, and heatmaps of a network without votes, have the squared error
    (BodyPoseNet's loss: TensorFlow's `l2_loss` over every stage and branch). Heatmaps of a network
    with votes, and `centre`, are probabilities and have the cross entropy, whose gradient does not
    vanish where the network is sure and wrong. Offsets have their absolute error. Where the labels
    do not know (`labels.UNKNOWN`), little is asked.
    """
    heat_mask = _refined(target.mask, said.heatmaps[0])
    joints = said.heatmaps[0].shape[-1]
    wanted = target.heatmaps[..., :joints]
    heat_mask = heat_mask * ops.where(wanted < 0, _UNKNOWN_WEIGHT, 1.0)
    wanted = ops.maximum(wanted, 0.0)
    error = _squared_error if said.centre is None else _cross_entropy
    total = 0.0
    for heatmaps in said.heatmaps:
        total = total + ops.sum(error(wanted, heatmaps) * heat_mask)
    for affinity in said.affinity:
        total = total + ops.sum(_squared_error(target.affinity, affinity) * target.mask)
    if said.centre is not None:
        centre = _cross_entropy(target.heatmaps[..., -1:], said.centre)
        total = total + ops.sum(centre * _refined(target.mask, said.centre))
    if said.offsets is not None:
        stride = STRIDE * target.mask.shape[1] // said.offsets.shape[1]
        total = total + _offset_error(target.people, said.offsets, stride)
    return 0.5 * total / ops.cast(ops.shape(target.mask)[0], "float32")


def taught_loss(taught: Fields, said: Fields) -> Any:
    """`field_loss` with a teacher's fields instead of labels; it also knows what labels leave out.

    Offsets count wherever the teacher sees the middle of a person.

    Args:
        taught: of one stage.
        said: of every stage.
    """
    heatmaps, affinity = taught.heatmaps[-1], taught.affinity[-1]
    batch, height, width = ops.shape(affinity)[:3]
    mask = ops.ones((batch, height, width, 1), "float32")
    people = ops.zeros((batch, 1, 1, 3), "float32")
    if taught.centre is None or taught.offsets is None or said.offsets is None:
        return field_loss(Targets(heatmaps, affinity, mask, people), replace(said, offsets=None))
    both = ops.concatenate([heatmaps, taught.centre], axis=-1)
    rest = field_loss(Targets(both, affinity, mask, people), replace(said, offsets=None))
    extent = ops.max(ops.abs(taught.offsets), axis=-1, keepdims=True)
    error = ops.abs(said.offsets - taught.offsets) / ops.maximum(extent, _LEAST_SIZE)
    seen = ops.maximum(taught.centre - _LEAST_CENTRE, 0.0)
    return rest + 0.5 * _OFFSET_SHARE * ops.sum(error * seen) / ops.cast(batch, "float32")


def _refined(mask: Any, like: Any) -> Any:
    """A mask on a grid as fine as that of `like`."""
    fine = like.shape[1] // mask.shape[1]
    return ops.repeat(ops.repeat(mask, fine, axis=1), fine, axis=2)


def _squared_error(wanted: Any, got: Any) -> Any:
    return ops.square(got - wanted)


def _cross_entropy(wanted: Any, got: Any) -> Any:
    """Above what a perfect answer has, so that it is 0 for it."""
    wanted, got = (
        ops.clip(value, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY) for value in (wanted, got)
    )
    return wanted * ops.log(wanted / got) + (1 - wanted) * ops.log((1 - wanted) / (1 - got))


def _offset_error(people: Any, offsets: Any, stride: int) -> Any:
    """Absolute error of the joints seen from each person's middle, in shares of their extent.

    Args:
        people: (B, N, J + 1, 3), see `Targets`.
        offsets: (B, h, w, 2J) in cells.
        stride: network pixels per cell.
    """
    height, width = offsets.shape[1:3]
    xy = people[..., :2] / stride
    middle = xy[:, :, :1]
    rows = ops.cast(ops.clip(middle[..., 0, 1], 0, height - 1), "int32")
    columns = ops.cast(ops.clip(middle[..., 0, 0], 0, width - 1), "int32")
    cells = ops.expand_dims(rows * width + columns, -1)
    channels = offsets.shape[-1]
    at_middle = ops.take_along_axis(
        ops.reshape(offsets, (-1, height * width, channels)), ops.repeat(cells, channels, 2), axis=1
    )
    said = ops.reshape(at_middle, (-1, *people.shape[1:2], channels // 2, 2))
    cell_middle = ops.cast(ops.stack([columns, rows], -1), "float32") + 0.5
    wanted = xy[:, :, 1:] - ops.expand_dims(cell_middle, 2)
    labelled = ops.cast((people[:, :, 1:, 2] > 0) & (people[:, :, :1, 2] > 0), "float32")
    extent = ops.max(ops.abs(xy[:, :, 1:] - middle) * labelled[..., None], axis=(2, 3))
    size = ops.maximum(extent, _LEAST_SIZE)[..., None, None]
    return ops.sum(ops.abs(said - wanted) / size * labelled[..., None])


class FieldTraining(keras.Model):
    """A network with the loss that all its outputs share.

    Its images may be larger than the network's input by a whole factor (`SampleSettings.detail`);
    the network sees means of their pixels.
    """

    def __init__(self, network: keras.Model, network_hw: tuple[int, int]) -> None:
        super().__init__(name="field_training")
        self.network, self.network_hw = network, network_hw
        self.built = True  # the network is; what `load_weights` asks for

    def call(self, pixels: Any, training: bool = False) -> Any:
        return self.network(resized(pixels, self.network_hw), training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        target = Targets(*(ops.cast(part, "float32") for part in y))
        loss = self.loss_of(x, target, Fields.of(y_pred))
        for penalty in self.losses:
            loss = loss + ops.cast(penalty, "float32")
        return loss

    def loss_of(self, pixels: Any, target: Targets, said: Fields) -> Any:
        """The part of the loss that fields have; regularisers come on top."""
        return field_loss(target, said)


class DistilledTraining(FieldTraining):
    """A network that also learns to say what a frozen teacher says.

    Each of its stages has the teacher's last fields as a second target, so that the two may have
    different numbers of stages: (1 - weight) * loss(labels) + weight * loss(teacher's fields).
    """

    def __init__(
        self, network: keras.Model, network_hw: tuple[int, int], teacher: Teacher, weight: float
    ) -> None:
        super().__init__(network, network_hw)
        self.frozen = teacher.network  # an attribute: Keras must know its variables
        self.teacher, self.weight = teacher, weight

    def loss_of(self, pixels: Any, target: Targets, said: Fields) -> Any:
        taught = self.teacher(pixels)
        labels = super().loss_of(pixels, target, said)
        return (1 - self.weight) * labels + self.weight * taught_loss(taught, said)
