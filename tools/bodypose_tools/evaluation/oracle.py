"""The oracle: AP of the decoder on fields drawn from the labels.

It is an upper bound for every network: training cannot win back what decoding loses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from bodypose_client.scoring.annotations import people_of
from bodypose_client.scoring.coco_eval import CocoMetrics, annotated_sigmas, evaluate_results
from bodypose_tools.data.coco import ImageRecord, read_coco
from bodypose_tools.data.labels import LabelSettings, draw_affinity, draw_heatmaps
from bodypose_tools.networks.decoding import DecodeSettings, decode_fields
from bodypose_tools.networks.fields import STRIDE, Fields
from pose_runtime.grouping import people_in_image
from pose_runtime.letterbox import Letterbox
from pose_runtime.poses import Poses
from pose_runtime.spec import PipelineSpec

from .offline import coco_results_of

Floats = NDArray[np.float32]

_BATCH = 25


def oracle_metrics(
    annotations: Path,
    images: Path,
    spec: PipelineSpec,
    labels: LabelSettings,
    decode: DecodeSettings,
) -> CocoMetrics:
    """COCO's ten numbers of drawn fields -> decoding layers -> grouping, without a network.

    Raises:
        AnnotationError, FileError: the annotations are missing or of another skeleton.
        DatasetError: the images are missing.
    """
    records = read_coco(annotations, images, spec.skeleton)
    found = _people(records, spec, labels, decode)
    return evaluate_results(
        people_of(annotations, spec.skeleton),
        coco_results_of(found, spec),
        sigmas=annotated_sigmas(spec.skeleton),
    )


def _people(
    records: list[ImageRecord], spec: PipelineSpec, labels: LabelSettings, decode: DecodeSettings
) -> Iterator[tuple[ImageRecord, Poses]]:
    decoder = _decoder(spec, labels, decode)
    for start in range(0, len(records), _BATCH):
        batch = records[start : start + _BATCH]
        letterboxes = [Letterbox.fit(record.image_hw, spec.network_hw) for record in batch]
        placed = [
            _placed(record, letterbox) for record, letterbox in zip(batch, letterboxes, strict=True)
        ]
        drawn = [
            np.stack([draw(joints, spec.skeleton, spec.network_hw, labels) for joints in placed])
            for draw in (draw_heatmaps, draw_affinity)
        ]
        peaks, limb_scores = (np.asarray(o) for o in decoder.predict_on_batch(drawn))
        for row, record in enumerate(batch):
            geometry = letterboxes[row].to_geometry()
            yield record, people_in_image(peaks[row], limb_scores[row], geometry, spec)


def _decoder(spec: PipelineSpec, labels: LabelSettings, decode: DecodeSettings) -> keras.Model:
    height, width = spec.network_hw
    fine, skeleton = labels.heatmap_stride, spec.skeleton
    heatmaps = keras.Input((height // fine, width // fine, skeleton.num_joints + 1))
    affinity = keras.Input((height // STRIDE, width // STRIDE, 2 * skeleton.num_limbs))
    outputs = decode_fields(Fields((heatmaps,), (affinity,)), skeleton, decode, spec.network_hw)
    return keras.Model([heatmaps, affinity], list(outputs))


def _placed(record: ImageRecord, letterbox: Letterbox) -> Floats:
    joints = record.joints.copy()
    joints[:, :, :2] = letterbox.to_network(joints[:, :, :2])
    return joints
