"""Output files that appear whole or not at all, and places that can be written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bodypose_client.errors import DiskError, FileError


def check_can_write(path: Path, *, is_folder: bool = False) -> None:
    """Refuse a place that cannot be written, before the work for it starts.

    Args:
        path: of a file or folder that is to be written; it need not exist.
        is_folder: whether it is to be a folder.

    Raises:
        DiskError: it is of the other kind, a link to nothing, below a file, or not permitted.
    """
    got = ""
    if path.exists() and not path.is_file() and not path.is_dir() and not is_folder:
        got = "" if os.access(path, os.W_OK) else "no permission there"  # /dev/stdout, a pipe
    elif path.is_symlink() and not path.exists():
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


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, making its folder; an interrupted write leaves no trace there.

    A link is followed, and a device or pipe (`/dev/stdout`) is written to, never replaced.

    Raises:
        FileError: the operating system refuses.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        try:
            path.write_bytes(content)
        except OSError as error:
            raise FileError(path, "a place to write to", error) from error
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise FileError(path, "a place to write to", error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise FileError(path, "a place to write to", error) from error
    finally:
        temporary.unlink(missing_ok=True)
