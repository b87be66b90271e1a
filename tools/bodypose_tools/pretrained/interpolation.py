"""Interpolation: MoveNet's original heatmap logits blended with the fine-tuned ones."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.networks.fields import Fields
from bodypose_tools.networks.keras_files import check_keras_name, load_network, save_network
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import Skeleton

from .movenet_heads import MOVENET_JOINTS, load_heads


class InterpolationError(PoseError):
    """A network whose heatmaps cannot be blended with MoveNet's."""


def interpolate(
    model: Path, out: Path, share: float, pretrained: Path, stages: int | None = None
) -> Artifact:
    """Blend MoveNet's original heatmap logits with the fine-tuned ones.

    Fine-tuning on few images overfits to them. The heads get MoveNet's weights back. Of each joint
    that MoveNet has, the final logits are `share` of the last stage's plus 1 - `share` of the
    heads'. Joints without a source in MoveNet, such as the neck, stay as trained, and so do the
    stages' inputs.

    Args:
        model: a `bodypose-s` of ours, trained from MoveNet's weights.
        out: the `.keras` file to write, and its record.
        share: weight of the trained logits; 0 leaves MoveNet's alone.
        pretrained: the .npz of `tools import-backbone` with MoveNet's weights.
        stages: number of stages to keep, from the first; None: all. Each was trained to be last.

    Raises:
        InterpolationError: a network without such heads, with other ones or with fewer stages.

    Source: the idea is that of interpolating zero-shot and fine-tuned models, Wortsman et al.
    2022 (arXiv:2109.01903), here of their logits.
    """
    check_keras_name(out)
    network, pipeline, parent = load_network(model)
    source = Artifact.open(pretrained)
    fields = Fields.of(network.outputs)
    trained = len(fields.heatmaps)
    stages = trained if stages is None else stages
    if fields.centre is None or not 1 <= stages <= trained:
        raise InterpolationError(
            f"{model}: expected a bodypose-s of {stages} stages or more,"
            f" got {network.name} of {trained}"
        )
    _load_heads_back(network, model, pretrained, pipeline.skeleton)
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
    outputs = [
        *fields.heatmaps[: stages - 1],
        last,
        *fields.affinity[:stages],
        fields.centre,
        fields.offsets,
    ]
    made = keras.Model(network.inputs, outputs, name=network.name)
    settings = {**parent.settings, "val": None, "interpolation": {"share": share, "stages": stages}}
    return save_network(made, out, "interpolate", pipeline, parent, source, settings=settings)


def _load_heads_back(
    network: keras.Model, model: Path, pretrained: Path, skeleton: Skeleton
) -> None:
    try:
        loaded = load_heads(network, pretrained, skeleton)
    except ValueError as error:
        raise InterpolationError(
            f"{model}: expected heads as wide as those in {pretrained.name}, got others;"
            " interpolate before pruning"
        ) from error
    if "heat_0_logits" not in loaded:
        raise InterpolationError(
            f"{pretrained}: expected MoveNet's heads, got none; run `tools import-backbone` on"
            " MoveNet's archive"
        )


def _shares(skeleton: Skeleton, share: float) -> NDArray[np.float64]:
    """Weight of the trained logits for each heatmap, (J + 1,); the background is last."""
    known = [name in MOVENET_JOINTS for name in skeleton.joints]
    return np.where([*known, False], share, 1.0)
