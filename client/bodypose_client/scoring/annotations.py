"""COCO annotation files: read, and their keypoint names checked against a skeleton."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_client.errors import AnnotationError
from pose_runtime.skeleton import Skeleton

from .json_file import read_json

PERSON_CATEGORY = 1
# Centre of the first pixel in our frame; in COCO's it is 0.
PIXEL_CENTRE = np.float32(0.5)

Annotations = Path | Mapping[str, Any]


def load_annotations(annotations: Annotations) -> Mapping[str, Any]:
    """The content of a COCO file, with the parts and the category that evaluation needs.

    Raises:
        FileError: it cannot be read.
        AnnotationError: it is not JSON, a part is missing, or it has no people.
    """
    content = load_coco(annotations)
    categories = [category["id"] for category in content["categories"]]
    if PERSON_CATEGORY not in categories:
        raise AnnotationError(
            f"{_name(annotations)}: expected category {PERSON_CATEGORY} for people, got"
            f" {categories}"
        )
    return content


def load_coco(annotations: Annotations) -> Mapping[str, Any]:
    """The content of a COCO file: lists `images`, `annotations` and `categories`.

    Raises:
        FileError: it cannot be read.
        AnnotationError: it is not JSON, or a part is missing.
    """
    name, content = _name(annotations), annotations
    if isinstance(annotations, Path):
        content = read_json(annotations, "a COCO annotations file")
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(part), list) for part in ("images", "annotations", "categories")
    ):
        got = sorted(content) if isinstance(content, Mapping) else type(content).__name__
        raise AnnotationError(
            f"{name}: expected lists `images`, `annotations` and `categories`, got {got}"
        )
    return content


def check_keypoint_names(
    content: Mapping[str, Any], name: str, skeleton: Skeleton, advice: str = ""
) -> None:
    """Keypoints of the person category (or the only one) must be the skeleton's, in its order.

    A category without names passes.

    Args:
        content: of the COCO file.
        name: the file, for the message.
        skeleton: its annotated joints are expected.
        advice: end of the message, what to do about it.

    Raises:
        AnnotationError: the file names other keypoints.
    """
    categories = content["categories"]
    people = [c for c in categories if c.get("id") == PERSON_CATEGORY] or categories[:1]
    for category in people:
        names = tuple(category.get("keypoints", skeleton.annotated_joints))
        if names != skeleton.annotated_joints:
            raise AnnotationError(
                f"{name}: expected keypoints {', '.join(skeleton.annotated_joints)} of skeleton"
                f" {skeleton.name}, got {', '.join(names)}{advice}"
            )


def _name(annotations: Annotations) -> str:
    return str(annotations) if isinstance(annotations, Path) else "annotations"
