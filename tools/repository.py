"""Owns the built model repository: what is in it, where it comes from, and that it stays so.

`build/model_repository` has its record in `build/model_repository.json`: the sha256 of every file.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

import pose_runtime
from pose_runtime.errors import PoseError
from pose_runtime.letterbox import Letterbox
from pose_runtime.spec import PipelineSpec

from .artifacts import Artifact, atomic_path, record_path, sha256_of
from .onnx_contract import spec_in_onnx
from .triton_config import NETWORK, ensemble_of, render_config

# Both lie beside this package, in a checkout and in an installed wheel alike.
SOURCES = Path(__file__).parents[1] / "model_repository"
RUNTIME = Path(pose_runtime.__file__).parent

SHIPPED_MODEL = Path(__file__).parent / "models" / "bodypose-s.onnx"
CONFIG, PIPELINE, ONNX = "config.pbtxt", "pipeline.json", "model.onnx"
_STAGE = "build-repo"


class RepositoryError(PoseError):
    """A repository cannot be built from, or is not, what it should be."""


def build_repository(model: Path, output: Path) -> Path:
    """Everything that the embedded server needs to serve `model`, in the folder `output`.

    Same inputs, same bytes. A build that fails leaves an older repository at `output` as it was.

    Args:
        model: from `tools export`.
        output: a new folder, or one built before.

    Returns:
        The record of the repository.
    """
    _refuse_foreign_folder(output)
    onnx = Artifact.open(model)
    spec = spec_in_onnx(model).with_model(onnx.sha256)
    with _replacing(output) as folder:
        _copy_sources(folder)
        write_configs(folder, spec)
        for model_py in folder.glob("*/*/model.py"):
            _copy_python(RUNTIME, model_py.parent / RUNTIME.name)
            (model_py.parent / PIPELINE).write_text(spec.to_json())
        shutil.copyfile(model, folder / NETWORK / "1" / ONNX)
        _write_warmup(folder, spec)
    return _write_record(output, onnx)


def write_configs(folder: Path, spec: PipelineSpec) -> None:
    """config.pbtxt of every model of the pipeline, into `folder`/<model>/."""
    ensemble = ensemble_of(spec)
    for model in (*ensemble.steps, ensemble):
        (folder / model.name / CONFIG).write_text(render_config(model))


def changes_since_build(repository: Path) -> list[str]:
    """One line for each file that is not as `tools build-repo` left it; empty when all are."""
    if not repository.is_dir():
        return [f"{repository}: expected a model repository, got nothing; run `tools build-repo`"]
    try:
        recorded = json.loads(record_path(repository).read_text())["files"]
    except (OSError, ValueError, KeyError):
        return [f"{record_path(repository)}: expected the build's record; run `tools build-repo`"]
    present = _files(repository)
    changes = dict.fromkeys(recorded.keys() - present.keys(), "is missing")
    changes |= dict.fromkeys(present.keys() - recorded.keys(), "does not belong there")
    for name in recorded.keys() & present.keys():
        if sha256_of(present[name]) != recorded[name]:
            changes[name] = "changed after the build"
    return [
        f"{repository / name} {changes[name]}; run `tools build-repo`" for name in sorted(changes)
    ]


def _refuse_foreign_folder(output: Path) -> None:
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        try:
            stage = json.loads(record_path(output).read_text())["stage"]
        except (OSError, ValueError, KeyError):
            stage = None
        if stage != _STAGE:
            raise RepositoryError(
                f"{output}: expected a new folder or one that `tools {_STAGE}` made, got other"
                " files there; choose another with --output"
            )


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """An empty folder beside `output` that takes its place when the block ends without an error."""
    output.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}-"))
    try:
        fresh, old = workplace / "new", workplace / "old"
        fresh.mkdir()
        yield fresh
        if output.exists():
            output.rename(old)
        try:
            fresh.rename(output)
        except OSError:
            if old.exists():
                old.rename(output)
            raise
    finally:
        shutil.rmtree(workplace)


def _copy_sources(folder: Path) -> None:
    for source in sorted(SOURCES.glob("*/*/*")):
        if source.is_file():
            copy = folder / source.relative_to(SOURCES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def _copy_python(package: Path, copy: Path) -> None:
    copy.mkdir()
    for source in sorted(package.glob("*.py")):
        shutil.copyfile(source, copy / source.name)


def _write_warmup(folder: Path, spec: PipelineSpec) -> None:
    data = {
        spec.image.name: _warmup_image(spec.network_hw),
        spec.geometry.name: Letterbox.fit(spec.network_hw, spec.network_hw).to_geometry().tobytes(),
    }
    for model in ensemble_of(spec).steps:
        for name in model.warmup_files:
            path = folder / model.name / "warmup" / name
            path.parent.mkdir()
            path.write_bytes(data[name])


def _warmup_image(network_hw: tuple[int, int]) -> bytes:
    """A JPEG twice the network's size, as Triton stores a string: length, then bytes."""
    import simplejpeg

    rows, columns = np.mgrid[: 2 * network_hw[0], : 2 * network_hw[1]]
    pixels = np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)
    jpeg = bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=90))
    return len(jpeg).to_bytes(4, "little") + jpeg


def _files(repository: Path) -> dict[str, Path]:
    """Every file by its name inside the repository, without what Python leaves when it runs."""
    return {
        path.relative_to(repository).as_posix(): path
        for path in sorted(repository.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _write_record(repository: Path, model: Artifact) -> Path:
    record = {
        "file": repository.name,
        "stage": _STAGE,
        "parents": [{"file": model.path.name, "sha256": model.sha256}],
        "settings": {"target": "embedded"},
        "versions": {"bodypose-triton": metadata.version("bodypose-triton")},
        "files": {name: sha256_of(path) for name, path in _files(repository).items()},
    }
    with atomic_path(record_path(repository)) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")
    return record_path(repository)
