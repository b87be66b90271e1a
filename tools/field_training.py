"""Owns what a network is trained to do: the loss over its stages, with or without a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


def masked_l2(target: Any, outputs: Sequence[Any]) -> Any:
    """Half the masked squared error, summed over cells, channels and stages, mean over images.

    Args:
        target: (B, h, w, C + 1): heatmaps, background, part affinity fields, and the mask.
        outputs: heat_1..heat_T, paf_1..paf_T.

    Source: BodyPoseNet's loss (TensorFlow's `l2_loss` over every stage and branch).
    """
    stages = len(outputs) // 2
    mask = target[..., -1:]
    joints = outputs[0].shape[-1]
    wanted = (target[..., :joints] * mask, target[..., joints:-1] * mask)
    total = 0.0
    for index, output in enumerate(outputs):
        error = output * mask - wanted[index // stages]
        total = total + ops.sum(ops.square(error))
    return 0.5 * total / ops.cast(ops.shape(target)[0], "float32")


class FieldTraining(keras.Model):
    """A network with the loss that its 2T outputs share one target."""

    def __init__(self, network: keras.Model) -> None:
        super().__init__(name="field_training")
        self.network = network
        self.built = True  # the network is; what `load_weights` asks for

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
        loss = self.field_loss(x, ops.cast(y, "float32"), y_pred)
        for penalty in self.losses:
            loss = loss + ops.cast(penalty, "float32")
        return loss

    def field_loss(self, pixels: Any, target: Any, outputs: Sequence[Any]) -> Any:
        """The part of the loss that fields have; regularisers come on top."""
        return masked_l2(target, outputs)


class DistilledTraining(FieldTraining):
    """A network that also learns to say what a frozen teacher says.

    Each of its stages has the teacher's last fields as a second target, so that the two may have
    different numbers of stages: (1 - weight) * loss(labels) + weight * loss(teacher's fields).
    """

    def __init__(self, network: keras.Model, teacher: keras.Model, weight: float) -> None:
        super().__init__(network)
        teacher.trainable = False
        self.teacher, self.weight = teacher, weight

    def field_loss(self, pixels: Any, target: Any, outputs: Sequence[Any]) -> Any:
        heatmaps, affinity = last_fields(self.teacher(pixels, training=False))
        said = ops.concatenate(
            [ops.cast(heatmaps, "float32"), ops.cast(affinity, "float32"), target[..., -1:]], -1
        )
        imitation = masked_l2(ops.stop_gradient(said), outputs)
        labels = super().field_loss(pixels, target, outputs)
        return (1 - self.weight) * labels + self.weight * imitation


def last_fields(outputs: Sequence[Any]) -> tuple[Any, Any]:
    """The last stage's heatmaps and part affinity fields of heat_1..heat_T, paf_1..paf_T."""
    return outputs[len(outputs) // 2 - 1], outputs[-1]
