"""Evaluation through a server: the images of a COCO file in, COCO's ten numbers out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_client.image_check import size_problem
from bodypose_client.scoring.annotations import PERSON_CATEGORY, load_coco, people_of
from bodypose_client.scoring.coco_eval import (
    CocoMetrics,
    Result,
    annotated_sigmas,
    coco_results,
    evaluate_with_matches,
)
from bodypose_client.scoring.json_file import read_json
from bodypose_client.scoring.oks_matches import OksMatches
from bodypose_client.scoring.record import evaluation_record
from bodypose_client.wire.address import Address
from pose_runtime.paths import Inside

from .errors import AnnotationError, RequestRejected
from .formats import ServedModel
from .in_flight import map_in_order
from .pose_client import PoseClient


@dataclass(frozen=True, slots=True)
class SplitImage:
    """One image of a COCO file."""

    id: int
    path: Path
    hw: tuple[int, int]  # in the file's words, EXIF orientation applied


@dataclass(frozen=True, slots=True)
class Split:
    """The images of a COCO file, in its order, with and without people."""

    name: str
    content: Mapping[str, Any]  # of the annotations file
    images: tuple[SplitImage, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The people in one image, in COCO's format; `problem` says why the server refused it."""

    image: SplitImage
    results: tuple[Result, ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Images that have something in common; AP is -1 when there are none."""

    name: str
    ap: float
    images: int
    people: int


_PEOPLE_PER_IMAGE = (("1", 1, 1), ("2-4", 2, 4), ("5+", 5, 10**9))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well and how fast one server answered one split."""

    metrics: CocoMetrics
    matches: OksMatches
    answers: tuple[Answer, ...]
    seconds: float
    split: str
    model: ServedModel
    address: Address

    @property
    def results(self) -> list[Result]:
        """Every person found, in COCO's results format."""
        return [result for answer in self.answers for result in answer.results]

    @property
    def refused(self) -> list[Answer]:
        """The images that the server did not accept, with its words in `problem`."""
        return [answer for answer in self.answers if answer.problem]

    @property
    def by_people(self) -> list[Group]:
        """AP of images with 1, 2 to 4, and 5 or more annotated people who count."""
        return [
            Group(
                name,
                float(self.matches.average_precision(inside.astype(np.float64))),
                int(inside.sum()),
                int(self.matches.people[inside].sum()),
            )
            for name, low, high in _PEOPLE_PER_IMAGE
            for inside in [(self.matches.people >= low) & (self.matches.people <= high)]
        ]

    @property
    def images_per_s(self) -> float:
        """Images answered a second, from the first one sent to the last answer."""
        return len(self.answers) / self.seconds

    def to_json(self) -> dict[str, Any]:
        """`bodypose-evaluation/1`, ready for `json.dumps`."""
        return evaluation_record(
            self.metrics,
            self.split,
            asdict(self.model),
            by_people_per_image={
                group.name: {"AP": group.ap, "images": group.images, "people": group.people}
                for group in self.by_people
            },
            url=str(self.address),
            protocol=self.address.protocol.value,
            seconds=round(self.seconds, 3),
            images_per_s=round(self.images_per_s, 2),
            refused=[answer.image.path.name for answer in self.refused],
        )


Progress = Callable[[Iterable[Answer]], Iterable[Answer]]
Until = Callable[[Iterable[SplitImage]], Iterable[SplitImage]]


def open_split(annotations: Path, folder: Path, limit: int | None) -> Split:
    """The images of a COCO file.

    Args:
        annotations: the file.
        folder: where its images are.
        limit: only so many, from the start; None: all.

    Raises:
        FileError: the annotations cannot be read.
        AnnotationError: they are no COCO keypoints, or an image file is missing or has another
            size.
        ForeignPath: an image is not to lie in `folder`.
    """
    content = load_coco(annotations)
    inside = Inside(folder)
    images = tuple(
        SplitImage(image["id"], inside.path(image["file_name"]), (image["height"], image["width"]))
        for image in content["images"][:limit]
    )
    missing = [image.path.name for image in images if not image.path.is_file()]
    if missing:
        raise AnnotationError(
            f"{folder}: expected the {len(images)} images of {annotations.name}, got"
            f" {len(images) - len(missing)} of them; {missing[0]} is missing"
        )
    if not images:
        raise AnnotationError(f"{annotations}: expected at least one image, got none")
    for image in images:
        if problem := size_problem(image.path, image.hw):
            raise AnnotationError(f"image {image.id} ({image.path}): {problem}")
    return Split(annotations.name, content, images)


def evaluate_server(
    client: PoseClient,
    split: Split,
    in_flight: int,
    progress: Progress = iter,
    until: Until = iter,
) -> Evaluation:
    """Send the split's images to the server and score its answers.

    A refused image counts as one without people found, and is in `Evaluation.refused`.

    Args:
        client: of the server.
        split: images and annotations.
        in_flight: requests at a time.
        progress: sees each answer as it comes.
        until: may end the images early; the numbers are then of those that were sent.

    Raises:
        AnnotationError: the annotations are about other joints than the server's.
        ClientError: the server is gone, busy or too slow.
    """
    content = people_of(
        split.content, client.skeleton, split.name, "; the skeleton is the server's"
    )
    started = time.perf_counter()
    asked = map_in_order(partial(ask, client), until(split.images), in_flight)
    answers = tuple(progress(asked))
    seconds = time.perf_counter() - started
    metrics, matches = evaluate_with_matches(
        content,
        [result for answer in answers for result in answer.results],
        [answer.image.id for answer in answers],
        annotated_sigmas(client.skeleton),
    )
    return Evaluation(metrics, matches, answers, seconds, split.name, client.model, client.address)


def ask(client: PoseClient, image: SplitImage) -> Answer:
    """The people of one image, or why the server refused it."""
    try:
        poses = client.infer(image.path)
    except RequestRejected as error:
        return Answer(image, (), f"{image.path}: {error}")
    return Answer(image, tuple(coco_results(image.id, poses, client.skeleton)))


def load_results(path: Path) -> list[Result]:
    """A COCO results file, as `--results` writes it.

    Raises:
        FileError: it cannot be read.
        AnnotationError: it is something else; the message names the entry and its field.
    """
    content = read_json(path, "a COCO results file")
    if not isinstance(content, list):
        raise AnnotationError(
            f"{path}: expected a list of people, got {type(content).__name__};"
            " `pose-client evaluate --results` writes one"
        )
    for number, entry in enumerate(content):
        field = _wrong_field(entry)
        if field:
            raise AnnotationError(
                f"{path}: entry {number}: expected {field}; `pose-client evaluate --results`"
                " writes such a file"
            )
    return [
        {
            "image_id": entry["image_id"],
            "category_id": entry.get("category_id", PERSON_CATEGORY),
            "keypoints": entry["keypoints"],
            "score": entry["score"],
        }
        for entry in content
    ]


def _wrong_field(entry: Any) -> str:
    """What is expected of the first field that is wrong; "" when none is."""
    if not isinstance(entry, dict):
        return "an object with image_id, keypoints and score"
    if type(entry.get("image_id")) not in (int, str):
        return "image_id as a number or a name"
    if type(entry.get("category_id", PERSON_CATEGORY)) is not int:
        return "category_id as a number"
    if not _is_number(entry.get("score")):
        return "score as a number"
    keypoints = entry.get("keypoints")
    if not isinstance(keypoints, list) or len(keypoints) % 3 or not all(map(_is_number, keypoints)):
        return "keypoints as a list of x, y and score for each joint"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
