"""Callbacks of options that name outputs: a place that cannot be written is refused at once."""

from __future__ import annotations

from pathlib import Path

from bodypose_client.files.output_file import check_can_write


def new_file(path: Path | None) -> Path | None:
    """An option's file, which can be written. Raises: DiskError: it cannot."""
    if path is not None:
        check_can_write(path)
    return path


def new_folder(path: Path | None) -> Path | None:
    """An option's folder, which can be written. Raises: DiskError: it cannot."""
    if path is not None:
        check_can_write(path, is_folder=True)
    return path


def old_or_new_file(path: Path | None) -> Path | None:
    """An option's file, which is read if it exists, else written. Raises: DiskError: it cannot."""
    return path if path is not None and path.is_file() else new_file(path)


def file_or_folder(path: Path | None) -> Path | None:
    """An option's file, or its folder where the name has no ending. Raises: DiskError: neither."""
    if path is not None:
        check_can_write(path, is_folder=path.is_dir() or not path.suffix)
    return path
