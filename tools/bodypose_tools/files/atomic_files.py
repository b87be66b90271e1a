"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bodypose_client.errors import DiskError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk into one line about `path`.

    Raises:
        DiskError: the disk is full or cannot be written.
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


def reserve(path: Path, size: int) -> None:
    """Find out that the disk is full before a library does, which may crash.

    Args:
        path: of a file that is to be written.
        size: bytes that it will have, at least.

    Raises:
        DiskError: there is no room for it.
    """
    with disk_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(handle, 0, size)
        finally:
            os.close(handle)
            Path(name).unlink()


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
