"""The check of annotated images before work starts: they are there, readable, of their sizes."""

from __future__ import annotations

import os
from pathlib import Path

from bodypose_client.errors import AnnotationError
from bodypose_client.image_bytes import read_image_file
from bodypose_client.progress import with_progress
from bodypose_client.scoring.annotations import load_coco
from pose_runtime.errors import ImageError, PoseError
from pose_runtime.image_headers import Header, read_header
from pose_runtime.images import decode_image
from pose_runtime.paths import Inside
from pose_runtime.spec import ImageLimits

_HEAD_BYTES = 256 * 2**10  # a header with its EXIF thumbnail and colour profile
_TAIL_BYTES = 64
# What the last bytes of a whole file hold. Where it is absent, the file is decoded.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}


def check_split(
    annotations: Path, images_dir: Path, limit: int | None = None, *, decode: bool = False
) -> None:
    """Refuse a COCO file, or images that no network could see, before work starts.

    Args:
        annotations: the file.
        images_dir: where its images are.
        limit: only the first images, so many; None: all.
        decode: decode every image, with a bar, as `--check-images` asks; else headers and ends
            are looked at.

    Raises:
        FileError, AnnotationError: the file is no COCO keypoints, or images are missing, of
            another size or not readable: how many, and the first of them.
        ForeignPath: an image is not to lie in `images_dir`.
    """
    images = load_coco(annotations)["images"][:limit]
    folder = Inside(images_dir)
    problems = []
    for image in with_progress(images, len(images), "images checked") if decode else images:
        path = folder.path(image["file_name"])
        if problem := image_problem(path, (image["height"], image["width"]), decode=decode):
            problems.append(f"image {image['id']} ({path}): {problem}")
    if problems:
        raise AnnotationError(
            f"{annotations}: expected {len(images)} images that can be used, got {len(problems)}"
            f" that cannot; first {problems[0]}"
        )


def image_problem(
    path: Path,
    image_hw: tuple[int, int] | None,
    limits: ImageLimits | None = None,
    *,
    decode: bool = False,
) -> str:
    """What is wrong with an image file; "" when nothing is.

    Args:
        path: the file.
        image_hw: height and width that annotations give it, EXIF orientation applied; None: any.
        limits: what a server of the pipeline accepts.
        decode: decode it all, and not only where its end is missing.
    """
    limits = limits or ImageLimits()
    try:
        header, ends = _header_and_end(path, limits)
        if decode or not ends:
            decode_image(read_image_file(path, limits.max_bytes), limits)
    except OSError as error:
        return f"expected an image, got `{error.strerror}`"
    except PoseError as error:
        return str(error)
    return _other_size(header, image_hw)


def size_problem(path: Path, image_hw: tuple[int, int] | None) -> str:
    """What is wrong with the size that annotations give an image; "" where its header is not read.

    A server then says what is wrong with it.
    """
    try:
        return _other_size(_header_and_end(path, ImageLimits())[0], image_hw)
    except (OSError, PoseError):
        return ""


def _header_and_end(path: Path, limits: ImageLimits) -> tuple[Header, bool]:
    """A file's header, and whether the file ends as it should."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD_BYTES)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read(_TAIL_BYTES)
    try:
        header = read_header(head)
    except ImageError:
        if size <= _HEAD_BYTES:
            raise
        header = read_header(read_image_file(path, limits.max_bytes))
    return header, size <= limits.max_bytes and _ENDS.get(header.image_format, b"") in tail


def _other_size(header: Header, image_hw: tuple[int, int] | None) -> str:
    if image_hw is not None and header.upright_hw != image_hw:
        height, width = header.upright_hw
        swapped = "; they are swapped" if image_hw == (width, height) else ""
        return (
            f"expected width {width} and height {height}, as in the file, got {image_hw[1]} and"
            f" {image_hw[0]} in the annotations{swapped}"
        )
    return ""
