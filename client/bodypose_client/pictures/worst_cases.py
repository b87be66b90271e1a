"""The worst images of an evaluation, ready for the contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_client.image_bytes import read_image_file
from bodypose_client.scoring.annotations import PIXEL_CENTRE
from bodypose_client.scoring.oks_matches import ImageScore
from pose_runtime.images import decode_image
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import PipelineSpec

from .contact_sheet import Case


def worst_cases(
    worst: Sequence[ImageScore],
    paths: Mapping[int, Path],
    content: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    spec: PipelineSpec,
) -> list[Case]:
    """The annotated and the found people of each of these images.

    Args:
        worst: the images.
        paths: of each image id.
        content: of the annotations file.
        results: of the evaluation, in COCO's format.
        spec: of the server: its skeleton, and the images that it accepts.
    """
    return [_case(image, paths[image.image_id], content, results, spec) for image in worst]


def _case(
    image: ImageScore,
    path: Path,
    content: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    spec: PipelineSpec,
) -> Case:
    annotated = _people(_annotated(content, image.image_id), spec.skeleton)
    answers = [result for result in results if result["image_id"] == image.image_id]
    found = _people(answers, spec.skeleton).above(DISPLAY_MIN_SCORE)
    return Case(
        (
            f"{path.name}   annotated {len(annotated)}, missed {image.missed}",
            f"F1 {image.f1:.2f}   found {len(found)}, invented {image.invented}",
        ),
        decode_image(read_image_file(path, spec.limits.max_bytes), spec.limits),
        annotated,
        found,
    )


def _annotated(content: Mapping[str, Any], image_id: int) -> list[Mapping[str, Any]]:
    return [
        person
        for person in content["annotations"]
        if person["image_id"] == image_id and any(person["keypoints"][2::3])
    ]


def _people(entries: Sequence[Mapping[str, Any]], skeleton: Skeleton) -> Poses:
    """COCO entries in our frame; an annotated joint, seen or hidden, has score 1."""
    count = len(skeleton.annotated)
    keypoints = np.array([entry["keypoints"] for entry in entries], np.float32)
    keypoints = keypoints.reshape(len(entries), count, 3)
    there = keypoints[:, :, 2] > 0
    keypoints[there, :2] += PIXEL_CENTRE
    keypoints[:, :, 2] = np.minimum(keypoints[:, :, 2], 1)
    scores = np.array([entry.get("score", 1) for entry in entries], np.float32)
    return Poses(skeleton.joints_from_annotation(keypoints), scores)
