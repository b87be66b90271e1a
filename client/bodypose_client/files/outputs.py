"""Options that name outputs: a place that cannot be written, or is read, is refused at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer

from bodypose_client.files.output_file import check_can_write

_WRITTEN: Final = "written"  # in a context's `meta`: files that its options name as outputs


def new_file(ctx: typer.Context, path: Path | None) -> Path | None:
    """An option's file, which can be written. Raises: DiskError: it cannot."""
    if path is not None:
        check_can_write(path)
        ctx.meta.setdefault(_WRITTEN, []).append(path)
    return path


def new_folder(path: Path | None) -> Path | None:
    """An option's folder, which can be written. Raises: DiskError: it cannot."""
    if path is not None:
        check_can_write(path, is_folder=True)
    return path


def old_or_new_file(path: Path | None) -> Path | None:
    """An option's file, which is read if it exists, else written. Raises: DiskError: it cannot."""
    if path is not None and not path.is_file():
        check_can_write(path)
    return path


def file_or_folder(path: Path | None) -> Path | None:
    """An option's file, or its folder where the name has no ending. Raises: DiskError: neither."""
    if path is not None:
        check_can_write(path, is_folder=path.is_dir() or not path.suffix)
    return path


def refuse_inputs_as_outputs(meta: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuse a file that a command would both read and write, or write twice.

    Args:
        meta: of the command's context, in which `new_file` left the outputs.
        values: of all its parameters.

    Raises:
        typer.BadParameter: one of the outputs stands twice among the values.
    """
    paths = list(_paths_in(list(values.values())))
    for path in meta.get(_WRITTEN, []):
        is_device = path.exists() and not path.is_file()
        if not is_device and paths.count(path.resolve()) > 1:
            raise typer.BadParameter(f"expected a file of its own to write, got {path} twice")


def _paths_in(value: Any) -> Iterator[Path]:
    if isinstance(value, Path) or (isinstance(value, str) and _is_file(value)):
        yield Path(value).resolve()
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _paths_in(each)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # a text that no file system takes for a name
        return False
