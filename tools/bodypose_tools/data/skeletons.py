"""Skeleton files and other short texts that people write, read with their errors named."""

from __future__ import annotations

from pathlib import Path

from bodypose_client.scoring.json_file import read_json
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import Skeleton

_MAX_TEXT_BYTES = 2**20


class ConfigError(PoseError):
    """A spec file that cannot be used; the message names the key's path."""


def small_text(path: Path) -> str:
    """The text of a file that a person wrote.

    Raises:
        ConfigError: it is no text, or larger than a megabyte.
    """
    if path.stat().st_size > _MAX_TEXT_BYTES:
        raise ConfigError(
            f"{path}: expected at most {_MAX_TEXT_BYTES} bytes, got {path.stat().st_size}"
        )
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected text, got {error}") from error


def load_skeleton(path: Path) -> Skeleton:
    """Read a skeleton's JSON, as `Skeleton.to_json` writes it.

    Raises:
        ConfigError: no such file, or no skeleton.
    """
    try:
        return Skeleton.from_json(read_json(path, "a skeleton's JSON", _MAX_TEXT_BYTES))
    except PoseError as error:
        text = str(error).removeprefix(f"{path}: ")
        text = text.replace("expected JSON,", "expected a skeleton's JSON,")
        raise ConfigError(f"{path}: {text}") from error
