"""The check of annotations before training: what is wrong is listed, counted and left out."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_client.image_check import image_problem
from bodypose_client.progress import with_progress
from bodypose_client.scoring.annotations import PIXEL_CENTRE
from bodypose_tools.files.atomic_files import atomic_path
from pose_runtime.paths import Inside
from pose_runtime.skeleton import Skeleton

from .coco import DatasetError, ImageRecord, image_record_from_coco, open_coco, people_by_image

# Kinds of problems, and what training does about each.
NO_IMAGE = "image missing"
NO_SUCH_IMAGE = "annotation of an unknown image"
NO_AREA = "person of zero area"
BAD_IMAGE = "image that cannot be used"
OUTSIDE = "keypoint outside the image"
_REMEDIES = {
    NO_IMAGE: "image skipped",
    BAD_IMAGE: "image skipped",
    NO_SUCH_IMAGE: "annotation skipped",
    NO_AREA: "person skipped",
    OUTSIDE: "keypoint left out",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with an annotation file."""

    kind: str
    image_id: int
    annotation_id: int | str  # "" when it is about the image
    detail: str


def checked_coco(
    annotations: Path, images_dir: Path, skeleton: Skeleton, *, check_images: bool = False
) -> tuple[list[ImageRecord], list[Problem]]:
    """The images that can be trained on, as `read_coco` gives them, and all that was left out.

    Raises:
        FileError, AnnotationError: no such file, not COCO, or keypoints of another skeleton.
        DatasetError: none of the images is there and can be used.
        ForeignPath: an image is not to lie in `images_dir`.
    """
    content = open_coco(annotations, skeleton)
    images, by_image = content["images"], people_by_image(content)
    problems: list[Problem] = []
    records = []
    folder = Inside(images_dir)
    for image in with_progress(images, len(images), "images checked") if check_images else images:
        people = by_image.pop(image["id"], [])
        path = folder.path(image["file_name"])
        if not path.is_file():
            problems.append(Problem(NO_IMAGE, image["id"], "", str(path)))
            continue
        if detail := image_problem(path, (image["height"], image["width"]), decode=check_images):
            problems.append(Problem(BAD_IMAGE, image["id"], "", f"{path}: {detail}"))
            continue
        sound = [person for person in people if not _add(problems, _of_person(person))]
        for person in sound:
            _add(problems, _leave_out_keypoints_outside(person, image))
        records.append(image_record_from_coco(image, sound, folder, skeleton))
    for image_id, people in by_image.items():
        problems += [Problem(NO_SUCH_IMAGE, image_id, person["id"], "") for person in people]
    if images and not records:
        unusable = [problem.detail for problem in problems if problem.kind == BAD_IMAGE]
        raise DatasetError(
            f"{images_dir}: expected the images of {annotations.name}, got none of its"
            f" {len(images)} there; correct images_root_dir_path"
            if not unusable
            else f"expected images of {annotations.name} that can be used, got none of"
            f" {len(images)}; {unusable[0]}"
        )
    if not any(len(record.joints) for record in records):
        raise DatasetError(
            f"{annotations}: expected people with labelled joints, got none in {len(records)}"
            " images that can be used"
        )
    return records, problems


def write_problems(problems: Sequence[Problem], path: Path) -> None:
    """A CSV with one line for each problem."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Problem)])
        writer.writeheader()
        writer.writerows(asdict(problem) for problem in problems)


def summary(problems: Sequence[Problem]) -> list[str]:
    """One line per kind: how many, what became of them, and the first as an example."""
    lines = []
    for kind, count in Counter(problem.kind for problem in problems).most_common():
        first = next(problem for problem in problems if problem.kind == kind)
        where = f"image {first.image_id}"
        if first.annotation_id != "":
            where += f", annotation {first.annotation_id}"
        detail = f": {first.detail}" if first.detail else ""
        lines.append(f"{count} x {kind} ({_REMEDIES[kind]}), first {where}{detail}")
    return lines


def _add(problems: list[Problem], found: Iterator[Problem]) -> bool:
    """Keep what was found; whether anything was."""
    before = len(problems)
    problems.extend(found)
    return len(problems) > before


def _of_person(person: dict[str, Any]) -> Iterator[Problem]:
    """Problems for which a person is left out of training."""
    about = person["image_id"], person["id"]
    width, height = person["bbox"][2:]
    if not (width > 0 and height > 0):
        yield Problem(NO_AREA, *about, f"bbox {person['bbox']}")
    elif person["area"] <= 0:
        yield Problem(NO_AREA, *about, f"area {person['area']:g}")


def _leave_out_keypoints_outside(
    person: dict[str, Any], image: dict[str, Any]
) -> Iterator[Problem]:
    """Takes the visibility of keypoints that do not lie in the image."""
    keypoints = np.array(person["keypoints"], float).reshape(-1, 3)
    x, y, visibility = keypoints.T
    ours = keypoints[:, :2] + PIXEL_CENTRE
    inside = ((ours >= 0) & (ours <= (image["width"], image["height"]))).all(axis=1)
    wrong = np.flatnonzero((visibility > 0) & ~inside)
    if not len(wrong):
        return
    for index in wrong:
        detail = f"keypoint {index} at {x[index]:g}, {y[index]:g} of {image['width']} x"
        yield Problem(OUTSIDE, person["image_id"], person["id"], f"{detail} {image['height']}")
    keypoints[wrong, 2] = 0
    person["keypoints"] = keypoints.ravel().tolist()
    person["num_keypoints"] = int((keypoints[:, 2] > 0).sum())
