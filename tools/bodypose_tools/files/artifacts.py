"""Owns produced files: atomic writes, and the JSON record beside each file that names its parents.

`model.onnx` has its record in `model.onnx.json`. A stage opens its inputs through `Artifact.open`,
which refuses a file that changed after its record was written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pose_runtime.errors import PoseError

# The largest, of a repository with many versions, has some 20 KB.
_MAX_RECORD_BYTES = 4 * 2**20
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
# Distributions whose versions can change what a stage produces.
_RECORDED_VERSIONS = ("bodypose-triton", "keras", "tensorflow-cpu", "jax", "numpy", "onnx")


class StaleArtifactError(PoseError):
    """A file changed after the stage that made it wrote its record."""


class RecordError(PoseError):
    """A JSON record is not what a stage of ours writes."""


class DiskError(PoseError):
    """There is no room, or no permission, to write a file."""


class MissingArtifactError(PoseError):
    """A file that a stage needs does not exist."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One produced file: a checkpoint, an ONNX graph, an engine."""

    path: Path
    sha256: str
    stage: str  # "train", "prune", "export", ...
    parents: tuple[str, ...] = ()  # sha256 of what it was made from
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def record(
        cls,
        path: Path,
        stage: str,
        *parents: Artifact,
        settings: Mapping[str, Any] | None = None,
    ) -> Artifact:
        """Write the record of a file that `stage` just produced."""
        made = cls(
            path,
            sha256_of(path),
            stage,
            tuple(parent.sha256 for parent in parents),
            dict(settings or {}),
        )
        record = {
            "file": path.name,
            "sha256": made.sha256,
            "stage": stage,
            "parents": [{"file": p.path.name, "sha256": p.sha256} for p in parents],
            "settings": made.settings,
            "versions": _versions(),
        }
        with atomic_path(record_path(path)) as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")
        return made

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """The file at `path`, checked against its record when it has one.

        Raises:
            MissingArtifactError: there is no such file.
            StaleArtifactError: the file is not what its record says.
            RecordError: the record is no record.
        """
        if not path.is_file():
            raise MissingArtifactError(f"{path}: expected a file, got nothing there")
        sha256 = sha256_of(path)
        if not record_path(path).is_file():
            return cls(path, sha256, "given")
        recorded = cls.recorded(path)
        if recorded.sha256 != sha256:
            raise StaleArtifactError(
                f"{path} changed after `tools {recorded.stage}` wrote it; run"
                f" `tools {recorded.stage}` again, or delete {record_path(path).name} if the file"
                " is your own"
            )
        return recorded

    @classmethod
    def recorded(cls, path: Path) -> Artifact:
        """What the record says about the file at `path`, which may have stayed elsewhere.

        Raises:
            RecordError: there is no record, or it is none.
        """
        raw = read_record(
            record_path(path), {"sha256": str, "stage": str, "parents": list, "settings": dict}
        )
        parents = tuple(str(parent["sha256"]) for parent in raw["parents"])
        return cls(path, raw["sha256"], raw["stage"], parents, raw["settings"])


def record_path(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def read_record(path: Path, keys: Mapping[str, type]) -> dict[str, Any]:
    """A record as it may come from someone else: of a sane size, JSON, with these keys.

    Args:
        path: the record.
        keys: that it must have, and the types of their values.

    Raises:
        RecordError: it is missing, too large, or something else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_RECORD_BYTES + 1)
        if len(text) > _MAX_RECORD_BYTES:
            raise RecordError(
                f"{path}: expected a record of at most {_MAX_RECORD_BYTES} bytes, got more"
            )
        raw = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{error}"
        raise RecordError(f"{path}: expected a record in JSON, got `{reason}`") from error
    wrong = [
        key
        for key, kind in keys.items()
        if not isinstance(raw, dict) or not isinstance(raw.get(key), kind)
    ]
    parents = raw.get("parents", []) if isinstance(raw, dict) else []
    if wrong or not all(isinstance(parent, dict) and "sha256" in parent for parent in parents):
        raise RecordError(
            f"{path}: expected a record with {', '.join(keys)}, got none that fits in"
            f" {', '.join(wrong or ['parents'])}"
        )
    return dict(raw)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Inside, a full or read-only disk is one line about `path`.

    Raises:
        DiskError: it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise DiskError(
            f"{path}: expected to be able to write it, got `{error.strerror}`; make room, or"
            " choose another place"
        ) from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends without an error."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            _flush(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """To the disk, so that a power cut after the replacement does not leave an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _versions() -> dict[str, str]:
    versions = {}
    for name in _RECORDED_VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
