"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bodypose_client.errors import FileError


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
