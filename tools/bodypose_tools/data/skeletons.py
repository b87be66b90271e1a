"""Skeleton files and other short texts that people write, read with their errors named."""

from __future__ import annotations

import json
from pathlib import Path

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
    if not path.is_file():
        raise ConfigError(f"{path}: expected a skeleton's JSON, got nothing there")
    try:
        return Skeleton.from_json(json.loads(small_text(path)))
    except ValueError as error:
        raise ConfigError(f"{path}: expected a skeleton's JSON, got {error}") from error
