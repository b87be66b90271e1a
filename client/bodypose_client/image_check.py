"""The check of an annotated image before work starts: it is there, readable, and of its size."""

from __future__ import annotations

import os
from pathlib import Path

from bodypose_client.image_bytes import read_image_file
from pose_runtime.errors import ImageError, PoseError
from pose_runtime.image_headers import Header, read_header
from pose_runtime.images import decode_image
from pose_runtime.spec import ImageLimits

_HEAD_BYTES = 256 * 2**10  # a header with its EXIF thumbnail and colour profile
_TAIL_BYTES = 64
# What the last bytes of a whole file hold. Where it is absent, the file is decoded.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}


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
