"""Owns the way back: heatmaps between what MoveNet knew and what training made of it."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from pose_runtime.skeleton import Skeleton

from .artifacts import Artifact
from .fields import Fields
from .keras_models import load_network, save_network
from .movenet_heads import MOVENET_JOINTS


def interpolate(model: Path, out: Path, share: float) -> Artifact:
    """Keep only a share of what the stages change in the heatmaps of joints that MoveNet knows.

    Few images teach a network their own people better and everybody else's worse. The last
    stage's logits become `share` of themselves and the rest of the first ones, which began as
    MoveNet's. Joints without a source in MoveNet, such as the neck, stay as trained, and so does
    all that the stages tell each other.

    Args:
        model: a `bodypose-s` of ours, trained from MoveNet's weights.
        out: the `.keras` file to write, and its record.
        share: 0 is the heatmaps that the stages start from, 1 is `model`.

    Source: the idea is that of interpolating zero-shot and fine-tuned models, Wortsman et al.
    2022 (arXiv:2109.01903), here of their logits.
    """
    network, pipeline, parent = load_network(model)
    fields = Fields.of(network.outputs)
    stages = len(fields.heatmaps)
    shares = _shares(pipeline.skeleton, share)
    parts = {
        "heat_first_share": (network.get_layer("heat_0_logits").output, 1 - shares),
        "heat_last_share": (network.get_layer(f"heat_{stages}_logits").output, shares),
    }
    scaled = [
        layers.Rescaling(scale.tolist(), dtype="float32", name=name)(logits)
        for name, (logits, scale) in parts.items()
    ]
    logits = layers.Add(dtype="float32", name="heat_last_logits")(scaled)
    last = layers.Activation("sigmoid", dtype="float32", name="heat_last")(logits)
    outputs = [*network.outputs[: stages - 1], last, *network.outputs[stages:]]
    made = keras.Model(network.inputs, outputs, name=network.name)
    settings = {**parent.settings, "val": None, "interpolation": {"share": share}}
    return save_network(made, out, "interpolate", pipeline, parent, settings=settings)


def _shares(skeleton: Skeleton, share: float) -> NDArray[np.float64]:
    """Of the last stage, by heatmap; the background is the last."""
    known = [name in MOVENET_JOINTS for name in skeleton.joints]
    return np.where([*known, False], share, 1.0)
