"""Owns the list of a version folder's files: what a model starts with is what was built.

`tools build-repo` writes `manifest.json` beside each model.py; the model checks it when Triton
starts it, and again when a killed one is started anew. It finds accidents, not forgers: who can
write into the folder can write the list, too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .errors import SpecError

MANIFEST = "manifest.json"


def write_manifest(folder: Path) -> None:
    """List every file of a version folder with its sha256."""
    files = {name: _sha256(folder / name) for name in _files(folder)}
    (folder / MANIFEST).write_text(json.dumps(files, indent=2) + "\n")


def check_files(folder: Path) -> None:
    """Refuse to start from files that are not those of the build.

    Raises:
        SpecError: a file is missing, changed, or does not belong there; it is named.
    """
    try:
        listed = dict(json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise SpecError(
            f"{folder / MANIFEST}: expected the list that `tools build-repo` wrote, got {error!r}"
        ) from error
    present = _files(folder)
    for name in sorted({*listed, *present}):
        if name not in present:
            problem = "is missing"
        elif name not in listed:
            problem = "does not belong there"
        elif _sha256(folder / name) != listed[name]:
            problem = "changed after the build"
        else:
            continue
        raise SpecError(f"{folder / name} {problem}; run `tools build-repo`")


def _files(folder: Path) -> list[str]:
    """Names inside the folder, without the list and what Python leaves when it runs."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST and "__pycache__" not in path.parts
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
