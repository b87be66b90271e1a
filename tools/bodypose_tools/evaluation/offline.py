"""Offline evaluation: images through the serving steps in this process, then COCO AP.

The steps are the server's: `pose_runtime.images`, the network with its decoding layers,
`pose_runtime.grouping`. Only the runtime of the network differs, and that is a `Predictor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bodypose_client.progress import with_progress
from bodypose_client.scoring.annotations import people_of
from bodypose_client.scoring.coco_eval import (
    CocoMetrics,
    annotated_sigmas,
    coco_results,
    evaluate_results,
)
from bodypose_tools.data.coco import (
    DatasetError,
    ImageRecord,
    network_view,
    open_coco,
    read_coco,
    records_of,
)
from bodypose_tools.runtimes.predictor import Floats, Predictor
from pose_runtime.grouping import people_in_image
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import PipelineSpec

T = TypeVar("T")

_SEED = 42  # of the sample of a split


@dataclass(frozen=True, slots=True)
class Split:
    """Annotated images: all of a COCO file, or a sample of them that a seed decides.

    limit: number of images; None, or more than there are: all.
    """

    annotations: Path
    images: Path
    limit: int | None = None

    def __str__(self) -> str:
        return self.annotations.name + (f" ({self.limit})" if self.limit else "")


@dataclass(frozen=True, slots=True)
class Pool:
    """The images of several splits, read once for any number of models.

    skeleton: orders the keypoints of `content`.
    content: COCO's lists of these images and their people, under the ids of `records`.
    """

    skeleton: Skeleton
    records: list[ImageRecord]
    content: dict[str, Any]


def sampled(items: Sequence[T], limit: int | None, seed: int = _SEED) -> list[T]:
    """So many of the items, chosen by a seed, in their order; None, or more than there are: all."""
    if limit is None or limit >= len(items):
        return list(items)
    chosen = np.random.default_rng(seed).permutation(len(items))[:limit]
    return [items[index] for index in sorted(chosen)]


def splits_of(
    annotations: Sequence[Path], images: Sequence[Path], limit: int | None
) -> tuple[Split, ...]:
    """The splits of options that were given as often as each other.

    Raises:
        DatasetError: one of the two was given more often.
    """
    if len(annotations) != len(images):
        raise DatasetError(
            f"expected a folder of images for each annotations file, got {len(annotations)} files"
            f" and {len(images)} folders"
        )
    return tuple(Split(*pair, limit) for pair in zip(annotations, images, strict=True))


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


def pool(splits: Sequence[Split], skeleton: Skeleton) -> Pool:
    """The images of several splits together; they count as different, whatever their ids.

    Raises:
        AnnotationError, FileError: annotations are missing or of another skeleton.
        DatasetError: images are missing, or nobody in a split's sample has labelled joints.
    """
    records: list[ImageRecord] = []
    people: list[dict[str, Any]] = []
    content: dict[str, Any] = {}
    numbers = count(1)
    for split in splits:
        content = open_coco(split.annotations, skeleton)
        chosen = sampled(content["images"], split.limit)
        own = records_of(content, chosen, split.annotations, split.images, skeleton)
        ids = {record.image_id: next(numbers) for record in own}
        records += [replace(record, image_id=ids[record.image_id]) for record in own]
        people += [
            {**person, "image_id": ids[person["image_id"]], "id": len(people) + index}
            for index, person in enumerate(content["annotations"], start=1)
            if person["image_id"] in ids
        ]
    images = [{"id": record.image_id} for record in records]
    return Pool(skeleton, records, {**content, "images": images, "annotations": people})


def evaluate_pool(
    predict: Predictor, spec: PipelineSpec, images: Pool, progress: str = ""
) -> CocoMetrics:
    """COCO's ten numbers of a model on the images of several splits together.

    Args:
        predict: runs the network.
        spec: the network's pipeline.
        images: what `pool` read.
        progress: label of a progress bar on stderr; empty: none.

    Raises:
        DatasetError: the network has another skeleton.
    """
    if spec.skeleton != images.skeleton:
        raise DatasetError(
            f"expected a network of skeleton {images.skeleton.name}, with which the annotations"
            f" were read, got one of {spec.skeleton.name}"
        )
    found = find_people(predict, images.records, spec)
    if progress:
        found = with_progress(found, len(images.records), progress)
    results = coco_results_of(found, spec)
    return evaluate_results(images.content, results, sigmas=annotated_sigmas(spec.skeleton))
