"""The folder that the embedded server follows: copies of the models, or links to them.

Taking a model out of it stops new requests while accepted ones are answered; Triton's own stop
refuses requests that are halfway through an ensemble.
"""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

from .settings import Updates


def prepare(folder: Path, repository: Path, updates: Updates) -> None:
    """Fill `folder` with the models of `repository`.

    Args:
        folder: to create, for one server.
        repository: folder of `tools build-repo`.
        updates: NONE: copies, which do not change; POLL: links, which follow the repository.
    """
    folder.mkdir()
    for config in sorted(repository.glob("*/config.pbtxt")):
        place = folder / config.parent.name
        if updates is Updates.POLL:
            place.symlink_to(config.parent.resolve())
        else:
            shutil.copytree(config.parent, place, ignore=shutil.ignore_patterns("__pycache__"))
    if updates is Updates.NONE:
        # Python would write them when a model starts, which Triton would take for a change.
        compileall.compile_dir(folder, quiet=2)


def withdraw(folder: Path, model: str) -> None:
    """Take `model` out of the folder: accepted requests are answered, later ones refused."""
    place = folder / model
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        place.rename(folder.with_name(f"{folder.name}-withdrawn-{model}"))
