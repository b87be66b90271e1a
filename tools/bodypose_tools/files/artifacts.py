"""Files that stages produce, each with a JSON record beside it that names its parents.

`model.onnx` has its record in `model.onnx.json`. A stage opens its inputs through `Artifact.open`,
which refuses a file that changed after its record was written.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pose_runtime import __version__
from pose_runtime.errors import PoseError

from .json_records import RecordError, read_record, write_record

# Distributions whose versions can change what a stage produces.
_RECORDED_VERSIONS = ("keras", "tensorflow-cpu", "jax", "numpy", "onnx")


class StaleArtifactError(PoseError):
    """A file changed after the stage that made it wrote its record."""


class MissingArtifactError(PoseError):
    """A file that a stage needs does not exist."""


class ForeignFolderError(PoseError):
    """A folder to be written has files that its stage did not write."""


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
        write_record(record_path(path), record)
        return made

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """The file at `path`, checked against its record when it has one.

        Raises:
            MissingArtifactError: there is no such file.
            StaleArtifactError: the file is not what its record says.
            RecordError: the record is invalid.
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
        """The file at `path` as its record describes it; the file itself may be elsewhere.

        Raises:
            RecordError: there is no record, or it is invalid.
        """
        raw = read_record(
            record_path(path), {"sha256": str, "stage": str, "parents": list, "settings": dict}
        )
        parents = tuple(str(parent["sha256"]) for parent in raw["parents"])
        return cls(path, raw["sha256"], raw["stage"], parents, raw["settings"])


def refuse_foreign_folder(folder: Path, stage: str) -> None:
    """Refuse to write into a folder of somebody else.

    Raises:
        ForeignFolderError: neither new nor empty, and without a record of `stage` beside it.
    """
    if not folder.is_file() and not (folder.is_dir() and any(folder.iterdir())):
        return
    try:
        recorded = read_record(record_path(folder), {"stage": str})["stage"]
    except RecordError:
        recorded = None
    if recorded != stage:
        raise ForeignFolderError(
            f"{folder}: expected a new folder or one that `tools {stage}` made, got other files"
            " there; choose another with --output"
        )


def record_path(path: Path) -> Path:
    """Where the record of the file at `path` lies."""
    return path.with_name(path.name + ".json")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    versions = {"bodypose-triton": __version__}
    for name in _RECORDED_VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions
