"""JSON files from others, read with bounds: size, depth, and numbers that are finite."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, NoReturn

from bodypose_client.errors import AnnotationError, FileError

MAX_BYTES = 2**31  # COCO's own training annotations have 0.25 GB


def read_json(path: Path, expected: str, max_bytes: int = MAX_BYTES, *, nan: bool = False) -> Any:
    """The content of a JSON file.

    Args:
        path: a regular file.
        expected: what it should be, for the message, such as "a COCO results file".
        max_bytes: a larger file is refused without being read.
        nan: let NaN and infinity through, for a reader that names the field that has them.

    Raises:
        FileError: it cannot be read, or is no regular file.
        AnnotationError: it is larger, or no JSON, or nested too deep, or holds NaN or infinity.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("no regular file")
        if status.st_size > max_bytes:
            raise AnnotationError(
                f"{path}: expected {expected} of at most {max_bytes} bytes, got {status.st_size}"
            )
        text = path.read_bytes()
    except OSError as error:
        raise FileError(path, expected, error) from error
    try:
        return json.loads(text, parse_constant=None if nan else _not_finite)
    except RecursionError as error:
        raise AnnotationError(f"{path}: expected {expected}, got JSON nested too deep") from error
    except ValueError as error:
        raise AnnotationError(f"{path}: expected JSON, got {error}") from error


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name}, which is no number of JSON")
