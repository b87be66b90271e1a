"""Grouping's thresholds and the person score, chosen on training images.

The network runs once. Thresholds are then tried one after the other, the others fixed, until none
improves AP. The validation split is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.coco import ImageRecord, read_coco
from bodypose_tools.files.artifacts import record_path
from bodypose_tools.files.json_records import RecordError, read_record
from bodypose_tools.runtimes.predictor import Predictor
from pose_runtime.errors import PoseError
from pose_runtime.grouping import people_in_image
from pose_runtime.poses import Poses
from pose_runtime.spec import GroupingSettings, PipelineSpec

from .offline import metrics_of, network_answers, sampled

Floats = NDArray[np.float32]
Say = Callable[[str], None]

CANDIDATES: dict[str, tuple[float, ...]] = {
    "min_peak_score": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    "min_limb_score": (0.01, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3),
    "min_joints": (1, 2, 3, 4, 5),
}
_MAX_ROUNDS = 3
_BETTER = 1e-3  # least gain in AP for which a threshold changes

_SERVED = "as served"
# Other scores of a person, from the scores of the joints that were found, of J joints in all.
PERSON_SCORES: dict[str, Callable[[Floats, int], float]] = {
    "mean x sqrt(n / J)": lambda found, joints: float(found.mean() * np.sqrt(len(found) / joints)),
    "mean": lambda found, joints: float(found.mean()),
    "sum / J": lambda found, joints: float(found.sum() / joints),
    "best joint": lambda found, joints: float(found.max()),
}


@dataclass(frozen=True, slots=True)
class Tuning:
    """The thresholds that were tried, and the best of them."""

    grouping: GroupingSettings
    ap: float
    ap_before: float
    images: int
    tried: list[dict[str, Any]]  # in order: the threshold, its value, the AP
    person_scores: dict[str, float]  # AP by formula, with the chosen thresholds

    def to_json(self) -> dict[str, Any]:
        """The record `bodypose-grouping/1`."""
        return {"schema": "bodypose-grouping/1", **asdict(self)}


class GroupingTuningError(PoseError):
    """Thresholds that cannot be read, or not be stored where they should."""


def check_can_keep(model: Path) -> None:
    """Refuse a file whose record cannot hold thresholds, before the search for them.

    Raises:
        GroupingTuningError: not a .keras file with a record.
    """
    if model.suffix != ".keras" or not record_path(model).is_file():
        raise GroupingTuningError(
            f"{model}: expected a .keras file with its record for --keep, got one without either;"
            " tune best.keras of `tools train` and export it again"
        )


def read_grouping(path: Path) -> GroupingSettings:
    """The thresholds in a file of `tools tune-grouping`.

    Raises:
        GroupingTuningError: no such file, or another.
    """
    try:
        return GroupingSettings(**read_record(path, {"grouping": dict})["grouping"])
    except (RecordError, TypeError) as error:
        raise GroupingTuningError(
            f"{path}: expected what `tools tune-grouping -o` writes, got `{error}`"
        ) from error


def tune_grouping(
    predict: Predictor,
    spec: PipelineSpec,
    annotations: Path,
    images_dir: Path,
    limit: int,
    seed: int,
    say: Say,
) -> Tuning:
    """The thresholds with the best AP on `limit` images, taken at random by `seed`.

    Raises:
        GroupingTuningError: nobody in the chosen images has labelled joints.
        AnnotationError, FileError: the annotations are missing or of another skeleton.
        DatasetError: the images are missing.
    """
    every = read_coco(annotations, images_dir, spec.skeleton)
    records = sampled(every, limit, seed)
    if not any(len(record.joints) for record in records):
        raise GroupingTuningError(
            f"{annotations}: expected people with labelled joints in {len(records)} images, got"
            " none; raise -n"
        )
    answers = list(network_answers(predict, records, spec))

    def ap(
        grouping: GroupingSettings, score: Callable[[Floats, int], float] | None = None
    ) -> float:
        found = _people(answers, replace(spec, grouping=grouping), score)
        ids = [record.image_id for record in records]
        return float(metrics_of(found, spec, annotations, ids).ap)

    best = spec.grouping
    before = best_ap = ap(best)
    say(f"{len(records)} images: AP {before:.4f} with {_text(best)}")
    tried: list[dict[str, Any]] = []
    for _ in range(_MAX_ROUNDS):
        at_start = best
        for name, values in CANDIDATES.items():
            for value in sorted(
                values, key=_distance_to_default(name)
            ):  # of equals the nearest wins
                changed: dict[str, Any] = {name: value}
                candidate = replace(best, **changed)
                got = best_ap if candidate == best else ap(candidate)
                tried.append({"threshold": name, "value": value, "ap": round(got, 4)})
                if got > best_ap + _BETTER:
                    best, best_ap = candidate, got
                    say(f"AP {got:.4f} with {_text(best)}")
        if best == at_start:
            break
    scores = {_SERVED: round(best_ap, 4)} | {
        name: round(ap(best, score), 4) for name, score in PERSON_SCORES.items()
    }
    return Tuning(best, round(best_ap, 4), round(before, 4), len(records), tried, scores)


def _people(
    answers: Sequence[tuple[ImageRecord, Floats, Floats, Floats]],
    spec: PipelineSpec,
    score: Callable[[Floats, int], float] | None,
) -> Iterator[tuple[ImageRecord, Poses]]:
    for record, peaks, limb_scores, geometry in answers:
        poses = people_in_image(peaks, limb_scores, geometry, spec)
        yield record, poses if score is None else _rescored(poses, score)


def _rescored(poses: Poses, score: Callable[[Floats, int], float]) -> Poses:
    """The same people, in the order of another score."""
    joints = poses.keypoints[:, :, 2]
    scores = np.array([score(row[row > 0], len(row)) for row in joints], np.float32)
    order = (-scores).argsort(kind="stable")
    return Poses(poses.keypoints[order], scores[order])


def _text(grouping: GroupingSettings) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in asdict(grouping).items())


def _distance_to_default(name: str) -> Callable[[float], float]:
    default = getattr(GroupingSettings(), name)
    return lambda value: abs(value - default)
