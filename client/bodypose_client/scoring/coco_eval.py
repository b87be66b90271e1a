"""COCO keypoint evaluation: poses become COCO results, results become the ten numbers.

The numbers come from pycocotools. Nothing here needs a server: training uses it too.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from bodypose_client.errors import AnnotationError
from pose_runtime.poses import Poses
from pose_runtime.skeleton import BODYPOSE_18, Skeleton

from .annotations import PERSON_CATEGORY, PIXEL_CENTRE, Annotations, load_coco
from .oks_matches import OksMatches, matches_of

Result = dict[str, Any]


def annotated_sigmas(skeleton: Skeleton) -> tuple[float, ...]:
    """OKS sigmas in the order of annotation files."""
    return tuple(skeleton.sigmas[joint] for joint in skeleton.annotated)


COCO_SIGMAS = annotated_sigmas(BODYPOSE_18)


@dataclass(frozen=True, slots=True)
class CocoMetrics:
    """The ten numbers of COCO's keypoint evaluation, in 0..1; -1 where no person qualifies."""

    ap: float
    ap50: float
    ap75: float
    apm: float
    apl: float
    ar: float
    ar50: float
    ar75: float
    arm: float
    arl: float
    images: int  # evaluated, with and without people
    people: int  # annotated people who count: with labelled joints, not crowds

    @property
    def numbers(self) -> dict[str, float]:
        """The ten numbers by the names that COCO prints."""
        return {_coco_name(name): getattr(self, name) for name in _NUMBER_NAMES}

    def to_json(self) -> dict[str, float | int]:
        """The ten numbers by COCO's names, and the counts of images and people."""
        return {**self.numbers, "images": self.images, "people": self.people}

    def table(self) -> list[tuple[str, str, str]]:
        """Rows of name, value and meaning, for people to read."""
        return [
            (name, "n/a" if value < 0 else f"{value:.3f}", _MEANINGS[name])
            for name, value in self.numbers.items()
        ]


_NUMBER_NAMES = tuple(field.name for field in fields(CocoMetrics))[:10]
_MEANINGS = {
    "AP": "precision, mean over OKS 0.50 to 0.95",
    "AP50": "precision at OKS 0.50",
    "AP75": "precision at OKS 0.75",
    "APm": "precision, people of 32² to 96² pixels",
    "APl": "precision, people above 96² pixels",
    "AR": "recall, mean over OKS 0.50 to 0.95",
    "AR50": "recall at OKS 0.50",
    "AR75": "recall at OKS 0.75",
    "ARm": "recall, people of 32² to 96² pixels",
    "ARl": "recall, people above 96² pixels",
}


def _coco_name(name: str) -> str:
    return name[:2].upper() + name[2:]


def coco_results(image_id: int | str, poses: Poses, skeleton: Skeleton) -> list[Result]:
    """One image's people in COCO's results format, best first.

    `keypoints` are x, y and the joint's score in the order of annotation files; a joint that was
    not found is 0, 0, 0; midpoints, which no annotation has, are left out. COCO counts pixels from
    0 at the first one's centre, we count from its corner: coordinates go down by half a pixel.
    """
    keypoints = skeleton.annotation_from_joints(poses.keypoints).copy()
    keypoints[keypoints[:, :, 2] > 0, :2] -= PIXEL_CENTRE
    return [
        {
            "image_id": image_id,
            "category_id": PERSON_CATEGORY,
            "keypoints": person.ravel().tolist(),
            "score": score,
        }
        for person, score in zip(keypoints, poses.scores.tolist(), strict=True)
    ]


def evaluate_results(
    annotations: Annotations,
    results: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int] | None = None,
    sigmas: Sequence[float] = COCO_SIGMAS,
) -> CocoMetrics:
    """COCO's ten keypoint numbers over all given images, also those without people.

    Args:
        annotations: a COCO keypoints file or its content.
        results: as `coco_results` makes them, of any number of images.
        image_ids: evaluate these images only; None: every image of `annotations`.
        sigmas: OKS sigma of each annotated keypoint (`annotated_sigmas`).

    Raises:
        AnnotationError: annotations or results do not fit each other or `sigmas`.
    """
    return evaluate_with_matches(annotations, results, image_ids, sigmas)[0]


def evaluate_with_matches(
    annotations: Annotations,
    results: Sequence[Mapping[str, Any]],
    image_ids: Iterable[int] | None = None,
    sigmas: Sequence[float] = COCO_SIGMAS,
) -> tuple[CocoMetrics, OksMatches]:
    """`evaluate_results`, and the matches behind its numbers, for questions about images."""
    content = load_coco(annotations)
    known = [image["id"] for image in content["images"]]
    chosen = known if image_ids is None else list(dict.fromkeys(image_ids))
    _check_image_ids(chosen, known, "image_ids")
    _check_image_ids([result["image_id"] for result in results], known, "results")
    people = [{**person, "id": number} for number, person in enumerate(content["annotations"], 1)]
    _check_num_keypoints([*people, *results], len(sigmas))
    used = set(chosen)
    numbers, evaluated = _numbers_and_matches(
        {**content, "annotations": people},
        [
            {"category_id": PERSON_CATEGORY, **result}
            for result in results
            if result["image_id"] in used
        ],
        sorted(used),
        sigmas,
    )
    counted = Counter(
        person["image_id"]
        for person in people
        if person["image_id"] in used and person["num_keypoints"] > 0 and not person["iscrowd"]
    )
    named = dict(zip(_NUMBER_NAMES, numbers, strict=True))
    metrics = CocoMetrics(**named, images=len(chosen), people=counted.total())
    return metrics, matches_of(sorted(used), counted, evaluated)


def _check_image_ids(wanted: Iterable[int], known: Sequence[int], name: str) -> None:
    strangers = set(wanted) - set(known)
    if strangers:
        raise AnnotationError(
            f"{name}: expected images of the annotations, got {len(strangers)} others, such as"
            f" {min(strangers, key=str)}"
        )


def _check_num_keypoints(entries: Iterable[Mapping[str, Any]], count: int) -> None:
    for entry in entries:
        if len(entry["keypoints"]) != 3 * count:
            raise AnnotationError(
                f"image {entry['image_id']}: expected {count} keypoints, as many as sigmas, got"
                f" {len(entry['keypoints']) / 3:g}"
            )


def _numbers_and_matches(
    content: Mapping[str, Any],
    results: list[Result],
    image_ids: list[int],
    sigmas: Sequence[float],
) -> tuple[list[float], list[Any]]:
    """The ten numbers, and pycocotools' matches of people of any size, one entry an image."""
    if not results:  # pycocotools cannot load an empty list
        return [0.0] * len(_NUMBER_NAMES), []
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(content)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.params.imgIds = image_ids
        evaluation.params.catIds = [PERSON_CATEGORY]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    numbers = [float(number) for number in evaluation.stats]
    return numbers, evaluation.evalImgs[: len(image_ids)]
