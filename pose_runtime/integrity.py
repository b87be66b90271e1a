"""The list of a folder's files: what a model starts with is what was built.

`tools build-repo` writes `manifest.json` beside each model.py; the model checks it when Triton
starts it, and again when a killed one is started anew. `tools serve`, `check-repo` and `promote`
ask the same function about the whole repository. It finds accidents, not forgers: who can write
into the folder can write the list, too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import marshal
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

from .errors import SpecError

MANIFEST = "manifest.json"
_CACHE = "__pycache__"
_PYC_HEADER_BYTES, _UNCHECKED = 16, 1  # PEP 552: magic number, flags, 8 bytes about the source
# Beside its versions, what Triton reads of a model; its folder is on the Python model's path.
_CONFIG, _OF_A_MODEL = "config.pbtxt", frozenset({"config.pbtxt", "warmup"})


def write_manifest(folder: Path) -> None:
    """List every file of a version folder with its sha256."""
    files = listing(folder, besides=MANIFEST)
    (folder / MANIFEST).write_text(json.dumps(files, indent=2) + "\n")


def check_files(folder: Path) -> None:
    """Refuse to start from files that are not those of the build.

    Raises:
        SpecError: a file is missing, changed, or does not belong there; it is named.
    """
    try:
        listed = dict(json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise SpecError(
            f"{folder / MANIFEST}: expected the list that `tools build-repo` wrote, got {error!r}"
        ) from error
    for name, problem in changes(folder, listed, besides=MANIFEST).items():
        raise SpecError(f"{folder / name} {problem}; run `tools build-repo`")
    if (folder.parent / _CONFIG).is_file():
        for path in sorted(folder.parent.iterdir()):
            if path.name not in _OF_A_MODEL and not path.name.isdigit():
                raise SpecError(f"{path} does not belong there; run `tools build-repo`")


def listing(folder: Path, besides: str = "") -> dict[str, str]:
    """The sha256 of every regular file by its name in the folder, without Python's caches."""
    return {
        name: _sha256(folder / name)
        for name, kind in sorted(_entries(folder))
        if kind is _FILE and name != besides and _CACHE not in name.split("/")
    }


def changes(folder: Path, listed: Mapping[str, str], besides: str = "") -> dict[str, str]:
    """What is not as listed, by its name in the folder and in words.

    All that Triton or Python would load counts: files, links (a build has none), empty folders,
    compiled Python. Python's own cache of a listed source is no change, as long as it holds what
    this Python makes of that source; nor is one that another process is writing.

    Args:
        folder: to look at.
        listed: sha256 by name, from `listing`.
        besides: a file that is not looked at.
    """
    found: dict[str, str] = {}
    missing = set(listed)
    for name, kind in _entries(folder):
        missing.discard(name)
        if name == besides or (kind is _EMPTY and any(it.startswith(f"{name}/") for it in listed)):
            continue  # what is missing in it is named
        problem = _problem(folder, name, kind, listed)
        if problem:
            found[name] = problem
    return dict(sorted((found | dict.fromkeys(missing, "is missing")).items()))


# By Python 3.11's `==` of code objects.
_NOT_COMPARED = ("co_qualname", "co_stacksize", "co_varnames", "co_cellvars", "co_freevars")
_FILE, _LINK, _EMPTY, _OTHER = "a file", "a link", "an empty folder", "no file"
# Python writes a cache under this ending, which it never loads, and renames it then (importlib's
# `_write_atomic`). Several processes of a model start, and write, at once.
_BEING_WRITTEN = re.compile(r"\.\d+")
_DEEPEST = 32  # folders in folders; a build has 4, and a path has an end


def _entries(folder: Path, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and kind of all that is in a folder; links are not followed."""
    with os.scandir(folder) as entries:
        for entry in list(entries):
            name = f"{prefix}{entry.name}"
            if entry.is_symlink():
                yield name, _LINK
            elif entry.is_dir() and prefix.count("/") < _DEEPEST:
                inside = list(_entries(folder / entry.name, f"{name}/"))
                yield from inside or [(name, _EMPTY)]
            else:
                yield name, _FILE if entry.is_file() else _OTHER


def _problem(folder: Path, name: str, kind: str, listed: Mapping[str, str]) -> str:
    if kind is _FILE and name in listed:
        try:
            return "" if _sha256(folder / name) == listed[name] else "changed after the build"
        except OSError as error:
            return f"cannot be read ({error.strerror})"
    if kind is _FILE and _is_cache(folder, name, listed):
        return ""
    return "does not belong there" if kind is _FILE else f"is {kind} and does not belong there"


def _is_cache(folder: Path, name: str, listed: Mapping[str, str]) -> bool:
    """Whether a file is what this Python caches of a listed source, to the last constant."""
    place = Path(name)
    source = f"{place.parents[1].as_posix()}/" if len(place.parts) > 2 else ""
    source += f"{place.name.split('.')[0]}.py"
    if place.parent.name != _CACHE or source not in listed:
        return False
    cache = importlib.util.cache_from_source(str(folder / source))
    if _BEING_WRITTEN.fullmatch(str(folder / name).removeprefix(cache)):
        return True
    if cache != str(folder / name):
        return False  # another Python's
    try:
        content = (folder / name).read_bytes()
        if content[:4] != importlib.util.MAGIC_NUMBER:
            return False
        if int.from_bytes(content[4:8], "little") == _UNCHECKED:
            return False
        cached = marshal.loads(content[_PYC_HEADER_BYTES:])
        code = compile((folder / source).read_bytes(), "", "exec", dont_inherit=True)
        return _is_same_code(cached, code)
    except Exception:  # `marshal` raises anything, SystemError too, for bytes that it did not write
        return False


def _is_same_code(cached: Any, code: CodeType) -> bool:
    """Whether two code objects do the same; `==` leaves out the size of the stack and more."""
    return (
        isinstance(cached, CodeType)
        and cached == code
        and all(getattr(cached, name) == getattr(code, name) for name in _NOT_COMPARED)
        and all(
            _is_same_code(inner, ours)
            for inner, ours in zip(cached.co_consts, code.co_consts, strict=True)
            if isinstance(ours, CodeType)
        )
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
