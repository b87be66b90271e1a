"""JSON records: written whole or not at all, and read with their size, keys and types checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bodypose_client.errors import AnnotationError, FileError
from bodypose_client.scoring.json_file import read_json
from pose_runtime.errors import PoseError

from .atomic_files import atomic_path

# The largest, of a repository with many versions, has some 20 KB.
_MAX_RECORD_BYTES = 4 * 2**20


class RecordError(PoseError):
    """A JSON record is not what a stage of ours writes."""


def write_record(path: Path, record: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write `record` as indented JSON, atomically.

    Raises:
        DiskError: `path` cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def read_record(path: Path, keys: Mapping[str, type]) -> dict[str, Any]:
    """Read a record, which others may have written: its size, keys and types are checked.

    Args:
        path: the record.
        keys: required keys, and the types of their values.

    Raises:
        RecordError: the file is missing, too large, no JSON, or lacks a key.
    """
    try:
        raw = read_json(path, "a record in JSON", _MAX_RECORD_BYTES)
    except (AnnotationError, FileError) as error:
        text = str(error).replace(": expected JSON,", ": expected a record in JSON,")
        raise RecordError(text) from error
    wrong = [
        key
        for key, kind in keys.items()
        if not isinstance(raw, dict) or not isinstance(raw.get(key), kind)
    ]
    parents = raw.get("parents", []) if isinstance(raw, dict) else []
    sound = isinstance(parents, list) and all(
        isinstance(parent, dict) and "sha256" in parent for parent in parents
    )
    if wrong or not sound:
        raise RecordError(
            f"{path}: expected a record with {', '.join(keys)}, got none that fits in"
            f" {', '.join(wrong or ['parents'])}"
        )
    return dict(raw)
