"""Offline evaluation: images through the serving steps in this process, then COCO AP.

The steps are the server's: `pose_runtime.images`, the network with its decoding layers,
`pose_runtime.grouping`. Only the runtime of the network differs, and that is a `Predictor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_client.progress import with_progress
from bodypose_client.scoring.annotations import people_of
from bodypose_client.scoring.coco_eval import (
    CocoMetrics,
    annotated_sigmas,
    coco_results,
    evaluate_results,
)
from bodypose_tools.data.coco import ImageRecord, network_view, read_coco
from bodypose_tools.runtimes.predictor import Floats, Predictor
from pose_runtime.grouping import people_in_image
from pose_runtime.poses import Poses
from pose_runtime.spec import PipelineSpec


def find_people(
    predict: Predictor, records: Sequence[ImageRecord], spec: PipelineSpec, batch_size: int = 8
) -> Iterator[tuple[ImageRecord, Poses]]:
    """The people of every image, in order; memory holds one batch."""
    for record, peaks, limb_scores, geometry in network_answers(predict, records, spec, batch_size):
        yield record, people_in_image(peaks, limb_scores, geometry, spec)


def network_answers(
    predict: Predictor, records: Sequence[ImageRecord], spec: PipelineSpec, batch_size: int = 8
) -> Iterator[tuple[ImageRecord, Floats, Floats, Floats]]:
    """The input of grouping for every image: peaks, limb scores and geometry."""
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        placed = [network_view(record, spec.network_hw, spec.limits) for record in batch]
        pixels = np.stack([image for image, _ in placed])
        if len(batch) < batch_size:  # one shape only, so that nothing compiles twice
            pixels = np.pad(pixels, ((0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)))
        peaks, limb_scores = predict(pixels)
        for row, record in enumerate(batch):
            yield record, peaks[row], limb_scores[row], placed[row][1].to_geometry()


def coco_results_of(
    found: Iterator[tuple[ImageRecord, Poses]], spec: PipelineSpec
) -> list[dict[str, Any]]:
    """COCO result entries of the people that `find_people` found."""
    return [
        entry
        for record, poses in found
        for entry in coco_results(record.image_id, poses, spec.skeleton)
    ]


def evaluate_model(
    predict: Predictor,
    spec: PipelineSpec,
    annotations: Path,
    images: Path,
    limit: int | None = None,
    batch_size: int = 8,
    progress: str = "",
) -> CocoMetrics:
    """COCO's ten numbers of a model on a split, or on its first `limit` images.

    Args:
        predict: runs the network.
        spec: the network's pipeline.
        annotations: a COCO keypoints file.
        images: the folder of its images.
        limit: only the first images, so many; None: all.
        batch_size: images that the network gets at once.
        progress: label of a progress bar on stderr; empty: none.

    Raises:
        AnnotationError, FileError: the annotations are missing or of another skeleton.
        DatasetError: the images are missing.
    """
    records = read_coco(annotations, images, spec.skeleton, limit)
    found = find_people(predict, records, spec, batch_size)
    if progress:
        found = with_progress(found, len(records), progress)
    return metrics_of(found, spec, annotations, [record.image_id for record in records])


def metrics_of(
    found: Iterator[tuple[ImageRecord, Poses]],
    spec: PipelineSpec,
    annotations: Path,
    image_ids: Sequence[int],
) -> CocoMetrics:
    """COCO's ten numbers of the people that `find_people` found in these images."""
    results = coco_results_of(found, spec)
    content = people_of(annotations, spec.skeleton)
    return evaluate_results(content, results, image_ids, annotated_sigmas(spec.skeleton))
