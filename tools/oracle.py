"""Owns the oracle: what AP the decoder reaches on ideal fields drawn from the labels themselves.

It bounds every network: what is lost here no training wins back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from client.coco_eval import CocoMetrics, annotated_sigmas, evaluate_results
from pose_runtime.grouping import people_in_image
from pose_runtime.letterbox import Letterbox
from pose_runtime.poses import Poses
from pose_runtime.spec import PipelineSpec

from .dataset import ImageRecord, read_coco
from .decoding import DecodeSettings, decode_fields
from .evaluate import coco_results_of
from .labels import STRIDE, LabelSettings, draw_fields

Floats = NDArray[np.float32]

_BATCH = 25


def oracle_metrics(
    annotations: Path,
    images: Path,
    spec: PipelineSpec,
    labels: LabelSettings,
    decode: DecodeSettings,
) -> CocoMetrics:
    """COCO's ten numbers of drawn fields -> decoding layers -> grouping, no network involved.

    Raises:
        DatasetError: the annotations or images are missing or of another skeleton.
    """
    records = read_coco(annotations, images, spec.skeleton)
    found = _people(records, spec, labels, decode)
    return evaluate_results(
        annotations,
        coco_results_of(found, spec),
        sigmas=annotated_sigmas(spec.skeleton),
    )


def _people(
    records: list[ImageRecord], spec: PipelineSpec, labels: LabelSettings, decode: DecodeSettings
) -> Iterator[tuple[ImageRecord, Poses]]:
    field_hw = (spec.network_hw[0] // STRIDE, spec.network_hw[1] // STRIDE)
    joints = spec.skeleton.num_joints + 1
    fields = keras.Input((*field_hw, spec.skeleton.num_fields))
    outputs = decode_fields(fields[..., :joints], fields[..., joints:], spec.skeleton, decode)
    decoder = keras.Model(fields, list(outputs))
    for start in range(0, len(records), _BATCH):
        batch = records[start : start + _BATCH]
        letterboxes = [Letterbox.fit(record.image_hw, spec.network_hw) for record in batch]
        drawn = [
            draw_fields(_placed(record, letterbox), spec.skeleton, field_hw, labels)
            for record, letterbox in zip(batch, letterboxes, strict=True)
        ]
        peaks, limb_scores = (np.asarray(o) for o in decoder.predict_on_batch(np.stack(drawn)))
        for row, record in enumerate(batch):
            geometry = letterboxes[row].to_geometry()
            yield record, people_in_image(peaks[row], limb_scores[row], geometry, spec)


def _placed(record: ImageRecord, letterbox: Letterbox) -> Floats:
    joints = record.joints.copy()
    joints[:, :, :2] = letterbox.to_network(joints[:, :, :2])
    return joints
