"""The locks of a repository: one writer at a time, and no rebuild while a server runs from it.

The kernel holds the locks, so a killed process leaves none behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bodypose_client.errors import DiskError
from bodypose_client.files.output_file import check_can_write
from bodypose_tools.files.atomic_files import disk_errors
from pose_runtime.errors import PoseError


class RepositoryInUse(PoseError):
    """Another process writes or serves the repository."""


@contextlib.contextmanager
def writing(repository: Path) -> Iterator[None]:
    """Inside, this process is the only writer of `repository`; the lock file beside it stays.

    Raises:
        RepositoryInUse: another process writes it.
        DiskError: no folder can be written there.
    """
    if not repository.name or repository.name == "..":
        raise DiskError(
            f"{repository}: expected the name of a folder that may be replaced, got a place in use;"
            " give another -o, such as build/model_repository"
        )
    check_can_write(repository, is_folder=True)
    with disk_errors(repository):
        repository.parent.mkdir(parents=True, exist_ok=True)
    lock = repository.with_name(f".{repository.name}.lock")
    with _locked(lock, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX) as got:
        if not got:
            raise RepositoryInUse(
                f"{repository}: expected to be its only writer, got another `tools` command that"
                " writes it; wait until that command is done"
            )
        yield


@contextlib.contextmanager
def serving(repository: Path) -> Iterator[None]:
    """Inside, a server runs from `repository`; several may."""
    with _locked(repository, os.O_RDONLY, fcntl.LOCK_SH):
        yield


def is_served(repository: Path) -> bool:
    """Whether a process of this machine is inside `serving`."""
    if not repository.is_dir():
        return False
    with _locked(repository, os.O_RDONLY, fcntl.LOCK_EX) as got:
        return not got


@contextlib.contextmanager
def _locked(path: Path, flags: int, kind: int) -> Iterator[bool]:
    with disk_errors(path):
        handle = os.open(path, flags, 0o644)
    try:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
