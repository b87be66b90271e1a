"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pose_runtime.errors import PoseError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class DiskError(PoseError):
    """There is no room, or no permission, to write a file."""


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


def check_can_write(path: Path, *, is_folder: bool = False) -> None:
    """Refuse a place that cannot be written, before the work for it starts.

    Args:
        path: of a file or folder that is to be written; it need not exist.
        is_folder: whether it is to be a folder.

    Raises:
        DiskError: it is of the other kind, a link to nothing, below a file, or not permitted.
    """
    got = ""
    if path.is_symlink() and not path.exists():
        got = "a link to nothing"
    elif path.exists() and path.is_dir() != is_folder:
        got = "a folder there" if path.is_dir() else "a file there"
    else:
        above = next(each for each in (path, *path.absolute().parents) if os.path.lexists(each))
        if above == path and not is_folder:
            above = path.absolute().parent
        if not above.is_dir():
            got = f"{above}, which is no folder"
        elif not os.access(above, os.W_OK | os.X_OK):
            got = f"no permission in {above}"
    if got:
        kind = "a folder" if is_folder else "a file"
        raise DiskError(f"{path}: expected to be able to write {kind}, got {got}; choose another")


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
