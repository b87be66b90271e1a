"""Sheets of sample predictions: a few images, annotated people beside found people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bodypose_client.pictures.contact_sheet import Case, contact_sheet
from bodypose_tools.data.coco import ImageRecord
from bodypose_tools.evaluation.offline import find_people
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.runtimes.predictor import Predictor
from pose_runtime.poses import Poses
from pose_runtime.spec import PipelineSpec

from .samples import read_image

NUM_PICTURES = 8


def pictured(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """The same few images with people for every sheet of a run."""
    with_people = [record for record in records if len(record.joints)]
    return with_people[:NUM_PICTURES]


def draw_samples(
    predict: Predictor,
    records: Sequence[ImageRecord],
    spec: PipelineSpec,
    path: Path,
    batch_size: int,
) -> None:
    """Write a PNG of `records`: annotated people on the left, found people on the right."""
    cases = [
        Case(
            (f"image {record.image_id}: annotated", f"found {len(poses)}"),
            read_image(record),
            _annotated(record),
            poses,
        )
        for record, poses in find_people(predict, records, spec, batch_size)
    ]
    with atomic_path(path) as temporary:
        sheet = contact_sheet(cases, spec.skeleton)
        cv2.imwrite(str(temporary), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def _annotated(record: ImageRecord) -> Poses:
    keypoints = record.joints.copy()
    keypoints[:, :, 2] = keypoints[:, :, 2] > 0
    return Poses(keypoints, np.ones(len(keypoints), np.float32))
