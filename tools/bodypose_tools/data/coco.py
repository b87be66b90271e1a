"""COCO-format sets as training uses them: one `ImageRecord` per image, in image pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_client.image_check import image_problem
from bodypose_client.scoring.annotations import PIXEL_CENTRE, people_of
from pose_runtime.errors import ImageError, PoseError
from pose_runtime.images import network_pixels
from pose_runtime.letterbox import Letterbox
from pose_runtime.paths import Inside
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import ImageLimits

Floats = NDArray[np.float32]
_ADVICE = "; give the matching pose_config_path in a spec, or --skeleton"


class DatasetError(PoseError):
    """Images that are missing, cannot be read, or are too few."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageRecord:
    """One image of a COCO-format set.

    joints:        (N, J, 3) x, y, visibility of people with labelled joints, image pixels.
    boxes:         (N, 4) x, y, width, height of the same people.
    ignored_boxes: (K, 4) of crowds and of people without labelled joints.
    """

    image_id: int
    path: Path
    image_hw: tuple[int, int]
    joints: Floats
    boxes: Floats
    ignored_boxes: Floats


def read_coco(
    annotations: Path,
    images_dir: Path,
    skeleton: Skeleton,
    limit: int | None = None,
) -> list[ImageRecord]:
    """Every image of a COCO keypoint file, in the file's order, people or not.

    Each image's header and end are looked at, so that no file ends the work at its turn.

    Args:
        annotations: the file.
        images_dir: the folder of its images.
        skeleton: its annotated joints are expected.
        limit: only the first images, so many; None: all.

    Raises:
        FileError, AnnotationError: no such file, not COCO, or keypoints of another skeleton.
        DatasetError: an image is missing, cannot be read, or has another size; or nobody in these
            images has labelled joints, so that no AP could be had.
        ForeignPath: an image is not to lie in `images_dir`.
    """
    content = open_coco(annotations, skeleton)
    return records_of(content, content["images"][:limit], annotations, images_dir, skeleton)


def records_of(
    content: Mapping[str, Any],
    chosen: Sequence[dict[str, Any]],
    annotations: Path,
    images_dir: Path,
    skeleton: Skeleton,
) -> list[ImageRecord]:
    """`read_coco` of a file that was opened already, for the chosen ones of its images.

    Args:
        content: of `open_coco`.
        chosen: images of it.
        annotations: the file, for messages.
        images_dir: the folder of its images.
        skeleton: with which it was opened.

    Raises:
        DatasetError, ForeignPath: as `read_coco`.
    """
    by_image = people_by_image(content)
    folder = Inside(images_dir)
    records = [
        image_record_from_coco(image, by_image.get(image["id"], []), folder, skeleton)
        for image in chosen
    ]
    for record in records:
        if not record.path.is_file():
            raise DatasetError(
                f"{images_dir}: expected the images of {annotations.name}, got no"
                f" {record.path.relative_to(images_dir)} there"
            )
        if problem := image_problem(record.path, record.image_hw):
            raise DatasetError(f"image {record.image_id} ({record.path}): {problem}")
    if not any(len(record.joints) for record in records):
        raise DatasetError(
            f"{annotations}: expected people with labelled joints, got none in {len(records)}"
            " images"
        )
    return records


def network_view(
    record: ImageRecord, network_hw: tuple[int, int], limits: ImageLimits
) -> tuple[NDArray[np.uint8], Letterbox]:
    """A record's image as a server would give it to the network: (H, W, 3), and where it lies.

    Raises:
        DatasetError: it cannot be read; the message names it.
    """
    try:
        return network_pixels(record.path.read_bytes(), network_hw, limits)
    except (OSError, ImageError) as error:
        raise unreadable(record, error) from error


def unreadable(record: ImageRecord, error: Exception) -> DatasetError:
    """The error of an image that cannot be read, with its id and path."""
    return DatasetError(f"image {record.image_id} ({record.path}): {error}")


def open_coco(annotations: Path, skeleton: Skeleton) -> dict[str, Any]:
    """A file's images and people, as `people_of` gives them.

    Raises:
        FileError, AnnotationError: no such file, not COCO, or keypoints of another skeleton.
    """
    return people_of(annotations, skeleton, advice=_ADVICE)


def people_by_image(content: Mapping[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """The people of `open_coco`, by the id of their image."""
    by_image: dict[int, list[dict[str, Any]]] = {}
    for person in content["annotations"]:
        by_image.setdefault(person["image_id"], []).append(person)
    return by_image


def image_record_from_coco(
    image: dict[str, Any], people: Sequence[dict[str, Any]], folder: Inside, skeleton: Skeleton
) -> ImageRecord:
    """One image with its people. Raises: ForeignPath: it is not to lie in `folder`."""
    labelled = [p for p in people if _is_labelled(p)]
    ignored = [p for p in people if not _is_labelled(p)]
    annotation = np.array([p["keypoints"] for p in labelled], np.float32)
    annotation = annotation.reshape(len(labelled), len(skeleton.annotated), 3)
    annotation[:, :, :2] += PIXEL_CENTRE
    annotation[annotation[:, :, 2] == 0] = 0
    return ImageRecord(
        image_id=int(image["id"]),
        path=folder.path(image["file_name"]),
        image_hw=(int(image["height"]), int(image["width"])),
        joints=skeleton.joints_from_annotation(annotation),
        boxes=np.array([p["bbox"] for p in labelled], np.float32).reshape(-1, 4),
        ignored_boxes=np.array([p["bbox"] for p in ignored], np.float32).reshape(-1, 4),
    )


def _is_labelled(person: dict[str, Any]) -> bool:
    """Whether a person has joints to learn from."""
    return bool(person["num_keypoints"]) and not person["iscrowd"]
