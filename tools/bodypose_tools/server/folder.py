"""Owns the folder that the embedded server looks at: copies of the models, or links to them.

The server follows this folder, so that it can be told to take no more requests: Triton's own stop
refuses what it has accepted half-way through an ensemble.
"""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path

from .settings import Updates


def prepare(folder: Path, repository: Path, updates: Updates) -> None:
    """Fill `folder` with the models of `repository`.

    Args:
        folder: made here, private to one server.
        repository: from `tools build-repo`.
        updates: NONE: copies, which nobody changes; POLL: links, so that changes show.
    """
    folder.mkdir()
    for config in sorted(repository.glob("*/config.pbtxt")):
        place = folder / config.parent.name
        if updates is Updates.POLL:
            place.symlink_to(config.parent.resolve())
        else:
            shutil.copytree(config.parent, place, ignore=shutil.ignore_patterns("__pycache__"))
    if updates is Updates.NONE:
        # Else Python writes them when a model starts, and Triton takes that for a change.
        compileall.compile_dir(folder, quiet=2)


def withdraw(folder: Path, model: str) -> None:
    """Take `model` away: requests that came before are answered, later ones refused."""
    place = folder / model
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        place.rename(folder.with_name(f"{folder.name}-withdrawn-{model}"))
