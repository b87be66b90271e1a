"""The place that a name in somebody else's file stands for: inside its folder, or refused."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath
from typing import Any

from .errors import PoseError

# Of every file system that we know (Linux, limits.h).
_LONGEST_NAME = 255  # bytes


class ForeignPath(PoseError):
    """A file names a path that leads out of the folder it may name files of."""


class Inside:
    """The files of one folder, as a file of annotations, a list or a record names them.

    Every path that comes out of a file goes through here; `tests/unit/pose_runtime/test_paths.py`
    finds those that do not.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._absolute, self._real = folder.absolute(), folder.resolve()

    def path(self, name: Any) -> Path:
        """The path of the file `name`, below `folder` as that was given; whether or not it exists.

        Args:
            name: relative to the folder, with either kind of slashes, or absolute.

        Raises:
            ForeignPath: no text, or a place outside, be it by `..`, as an absolute path or by a
                symbolic link.
        """
        if not isinstance(name, str) or not _may_be_a_name(name):
            raise ForeignPath(f"{self.folder}: expected the name of a file in it, got {name!a:.80}")
        parts = self._parts(Path(_with_slashes(name)))
        if not parts or self._leaves_by_link(parts):
            raise ForeignPath(f"{self.folder}: expected a path inside, got {name!a:.200}")
        return self.folder.joinpath(*parts)

    def _parts(self, given: Path) -> list[str]:
        """Names from the folder on, without `..`; none for a place outside."""
        if given.is_absolute():
            bases = [base for base in (self._absolute, self._real) if given.is_relative_to(base)]
            if not bases:
                return []
            given = given.relative_to(bases[0])
        parts: list[str] = []
        for part in given.parts:
            if part != "..":
                parts.append(part)
            elif not parts:
                return []
            else:
                parts.pop()
        return parts

    def _leaves_by_link(self, parts: list[str]) -> bool:
        place = self._real
        try:
            for part in parts:
                place /= part
                if place.is_symlink():  # rare, and only then all of it is looked up
                    real = self._real.joinpath(*parts).resolve()
                    return not real.is_relative_to(self._real)
        except (OSError, RuntimeError):  # a circle of links, or longer than any path
            return True
        return False


def _may_be_a_name(name: str) -> bool:
    """Whether a file system can be asked for it: a JSON text may hold any code point."""
    try:
        longest = max(len(part.encode()) for part in name.split("/"))
    except UnicodeEncodeError:
        return False
    return longest <= _LONGEST_NAME and "\0" not in name


def _with_slashes(name: str) -> str:
    windows = PureWindowsPath(name)
    return windows.as_posix() if "\\" in name and not windows.drive else name
