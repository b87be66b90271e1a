"""The training loss: over all stages of a network, with or without a teacher."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from bodypose_tools.networks.fields import STRIDE, Fields
from bodypose_tools.networks.settings import HeatmapLoss

from .samples import Targets

_LEAST_PROBABILITY = 1e-6
_FOCUS = 2  # exponent of how wrong a cell is (CornerNet's alpha)
_NEARNESS = 4  # exponent of how near a joint is (CornerNet's beta)
_UNKNOWN_WEIGHT = 0.1  # of cells that may hold a joint without a label
_LEAST_SIZE = 4.0  # cells; below it a person's offsets weigh no more


def field_loss(
    target: Targets, predicted: Fields, heatmap_loss: HeatmapLoss = "cross_entropy"
) -> Any:
    """Half the masked error, summed over cells, channels and stages, mean over images.

    Part affinity fields, and heatmaps of a network without centres, have the squared error
    (BodyPoseNet's loss: TensorFlow's `l2_loss` over every stage and branch). Heatmaps of a network
    with centres, and `centre`, are probabilities and have `heatmap_loss`, whose gradient does not
    vanish where the network is confident and wrong. Offsets have their absolute error. Cells that
    may hold a joint without a label (`labels.UNKNOWN`) have a tenth of the weight.
    """
    heat_mask = _refined(target.mask, predicted.heatmaps[0])
    joints = predicted.heatmaps[0].shape[-1]
    wanted = target.heatmaps[..., :joints]
    heat_mask = heat_mask * ops.where(wanted < 0, _UNKNOWN_WEIGHT, 1.0)
    wanted = ops.maximum(wanted, 0.0)
    surprise = {"cross_entropy": _cross_entropy, "focal": _focal_error}[heatmap_loss]
    error = _squared_error if predicted.centre is None else surprise
    total = 0.0
    for heatmaps in predicted.heatmaps:
        total = total + ops.sum(error(wanted, heatmaps) * heat_mask)
    for affinity in predicted.affinity:
        total = total + ops.sum(_squared_error(target.affinity, affinity) * target.mask)
    if predicted.centre is not None and predicted.offsets is not None:
        centre = surprise(target.heatmaps[..., -1:], predicted.centre)
        total = total + ops.sum(centre * _refined(target.mask, predicted.centre))
        stride = STRIDE * target.mask.shape[1] // predicted.offsets.shape[1]
        total = total + _offset_error(target.people, predicted.offsets, stride)
    return 0.5 * total / ops.cast(ops.shape(target.mask)[0], "float32")


def _refined(mask: Any, like: Any) -> Any:
    """A mask on a grid as fine as that of `like`."""
    fine = like.shape[1] // mask.shape[1]
    return ops.repeat(ops.repeat(mask, fine, axis=1), fine, axis=2)


def _squared_error(wanted: Any, got: Any) -> Any:
    return ops.square(got - wanted)


def _cross_entropy(wanted: Any, got: Any) -> Any:
    """Cross entropy less its value for a perfect prediction, which is then 0."""
    wanted, got = (
        ops.clip(value, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY) for value in (wanted, got)
    )
    return wanted * ops.log(wanted / got) + (1 - wanted) * ops.log((1 - wanted) / (1 - got))


def _focal_error(wanted: Any, got: Any) -> Any:
    """Focal loss: cells are weighted by their error, and little on the slope around a joint.

    A joint that may be in any of several cells keeps a high peak, where squared error and cross
    entropy require its low probability in each; but exact positions are hardly learnt.

    Source: Law and Deng 2018, CornerNet (arXiv:1808.01244), equation 1, where only a cell with
    exactly 1 is positive; here `wanted` to the power of `_NEARNESS` is how positive a cell is,
    because joints lie between the centres of cells.
    """
    got = ops.clip(got, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    is_joint = wanted**_NEARNESS * (1 - got) ** _FOCUS * ops.log(got)
    is_none = (1 - wanted) ** _NEARNESS * got**_FOCUS * ops.log(1 - got)
    return -(is_joint + is_none)


def _offset_error(people: Any, offsets: Any, stride: int) -> Any:
    """Absolute error of the offsets from each person's centre, in shares of the person's extent.

    Args:
        people: (B, N, J + 1, 3), see `Targets`.
        offsets: (B, h, w, 2J) in cells.
        stride: network pixels per cell.
    """
    height, width = offsets.shape[1:3]
    xy = people[..., :2] / stride
    centre = xy[:, :, :1]
    rows = ops.cast(ops.clip(centre[..., 0, 1], 0, height - 1), "int32")
    columns = ops.cast(ops.clip(centre[..., 0, 0], 0, width - 1), "int32")
    cells = ops.expand_dims(rows * width + columns, -1)
    channels = offsets.shape[-1]
    at_centre = ops.take_along_axis(
        ops.reshape(offsets, (-1, height * width, channels)), ops.repeat(cells, channels, 2), axis=1
    )
    predicted = ops.reshape(at_centre, (-1, *people.shape[1:2], channels // 2, 2))
    cell_centre = ops.cast(ops.stack([columns, rows], -1), "float32") + 0.5
    wanted = xy[:, :, 1:] - ops.expand_dims(cell_centre, 2)
    labelled = ops.cast((people[:, :, 1:, 2] > 0) & (people[:, :, :1, 2] > 0), "float32")
    extent = ops.max(ops.abs(xy[:, :, 1:] - centre) * labelled[..., None], axis=(2, 3))
    size = ops.maximum(extent, _LEAST_SIZE)[..., None, None]
    return ops.sum(ops.abs(predicted - wanted) / size * labelled[..., None])


class FieldTraining(keras.Model):
    """A network with the loss that all its outputs share."""

    def __init__(self, network: keras.Model, heatmap_loss: HeatmapLoss) -> None:
        super().__init__(name="field_training")
        self.network, self.heatmap_loss = network, heatmap_loss
        self.built = True  # the network is built; `load_weights` requires it

    def call(self, pixels: Any, training: bool = False) -> Any:
        return self.network(pixels, training=training)

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

    def loss_of(self, pixels: Any, target: Targets, predicted: Fields) -> Any:
        """The part of the loss that fields have; regularisers come on top."""
        return field_loss(target, predicted, self.heatmap_loss)


class DistilledTraining(FieldTraining):
    """A network that also learns the predictions of a frozen teacher.

    Each of its stages has the teacher's last fields as a second target, so that the two may have
    different numbers of stages: (1 - weight) * loss(labels) + weight * loss(teacher's fields).
    """

    def __init__(
        self, network: keras.Model, heatmap_loss: HeatmapLoss, teacher: keras.Model, weight: float
    ) -> None:
        super().__init__(network, heatmap_loss)
        teacher.trainable = False
        self.teacher, self.weight = teacher, weight

    def loss_of(self, pixels: Any, target: Targets, predicted: Fields) -> Any:
        taught = Fields.of(
            [
                ops.stop_gradient(ops.cast(output, "float32"))
                for output in self.teacher(pixels, training=False)
            ]
        )
        heatmaps = taught.heatmaps[-1]
        if taught.centre is not None:
            heatmaps = ops.concatenate([heatmaps, taught.centre], axis=-1)
        second = target._replace(heatmaps=heatmaps, affinity=taught.affinity[-1])
        labels = super().loss_of(pixels, target, predicted)
        copied = super().loss_of(pixels, second, predicted)
        return (1 - self.weight) * labels + self.weight * copied
