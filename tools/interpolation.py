"""Owns the way back: heatmaps between what MoveNet knew and what fine-tuning made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose_runtime.skeleton import Skeleton

from .artifacts import Artifact
from .fields import Fields
from .import_backbone import read_arrays
from .keras_models import load_network, save_network
from .movenet_heads import MOVENET_JOINTS, movenet_heat_logits


def interpolate(model: Path, pretrained: Path, out: Path, share: float) -> Artifact:
    """Keep only a share of what training changed in the heatmaps of joints that MoveNet knows.

    Few images teach a network their own people better and everybody else's worse. Between the
    pretrained and the fine-tuned weights often lie better ones than both. The changes that the
    stages add to MoveNet's logits are linear in their last layers, so these are scaled; the logits
    that the changes are added to are interpolated. Joints without a source in MoveNet, such as
    the neck, stay as trained.

    Args:
        model: a `bodypose-s` of ours, trained from `pretrained`.
        pretrained: the .npz of `tools import-backbone`.
        out: the `.keras` file to write, and its record.
        share: 0 is MoveNet, 1 is `model`.

    Source: interpolation between zero-shot and fine-tuned weights, Wortsman et al. 2022
    (arXiv:2109.01903).
    """
    network, pipeline, parent = load_network(model)
    source = Artifact.open(pretrained)
    known = _known(pipeline.skeleton)
    shares = np.ones(pipeline.skeleton.num_joints + 1, np.float32)
    shares[known] = share
    for stage in range(1, len(Fields.of(network.outputs).heatmaps) + 1):
        layer = network.get_layer(f"heat_{stage}_change")
        kernel, bias = layer.get_weights()  # (2, 2, out, in), (out,)
        layer.set_weights([kernel * shares[:, None], bias * shares])
    logits = network.get_layer("heat_0_logits")
    trained = logits.get_weights()
    first = movenet_heat_logits(read_arrays(pretrained), trained, pipeline.skeleton)
    logits.set_weights([a + shares * (b - a) for a, b in zip(first, trained, strict=True)])
    settings = {**parent.settings, "val": None, "interpolation": {"share": share}}
    return save_network(network, out, "interpolate", pipeline, parent, source, settings=settings)


def _known(skeleton: Skeleton) -> list[int]:
    return [joint for joint, name in enumerate(skeleton.joints) if name in MOVENET_JOINTS]
