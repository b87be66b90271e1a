"""The built model repository: its files, its record, and the check that no file has changed.

The record of `build/model_repository` is `build/model_repository.json`: the sha256 of every file.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import pose_runtime
from bodypose_tools.files.artifacts import Artifact, record_path, refuse_foreign_folder
from bodypose_tools.files.atomic_files import disk_errors
from bodypose_tools.files.json_records import RecordError, read_record, write_record
from bodypose_tools.files.shipped import MODEL_SOURCES
from bodypose_tools.graphs.contract import spec_in_onnx
from pose_runtime import __version__
from pose_runtime.errors import PoseError
from pose_runtime.image_headers import checked_image
from pose_runtime.integrity import changes, listing, write_manifest
from pose_runtime.letterbox import Letterbox
from pose_runtime.spec import ImageLimits, PipelineSpec

from .lock import RepositoryInUse, is_served, writing
from .pbtxt import ENSEMBLE, GROUPING, NETWORK, ensemble_of, read_config, render_config
from .releases import TritonVersion
from .settings import NetworkBackend, ServerTarget
from .targets import MODEL_FILES, Serving

RUNTIME = Path(pose_runtime.__file__).parent

CONFIG, PIPELINE = "config.pbtxt", "pipeline.json"
ONNX = MODEL_FILES[NetworkBackend.PYTHON]
FIRST_VERSION = 1
_STAGE = "build-repo"
_DISTRIBUTION = "bodypose-triton"


class RepositoryError(PoseError):
    """A repository cannot be built, or is not as it was built."""


def build_repository(
    model: Path,
    output: Path,
    serving: Serving | None = None,
    limits: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write the folder with which a server serves `model`.

    Same inputs, same bytes. A build that fails leaves an older repository at `output` as it was.

    Args:
        model: ONNX file of `tools export`; for a server with a GPU a plan of `tools build-engine`.
        output: a new folder, or one built before.
        serving: the server and its settings; None: the embedded one.
        limits: fields of `ImageLimits` that differ from the model's.

    Returns:
        The path of the repository's record.

    Raises:
        RepositoryInUse: another process writes or serves the folder.
        ForeignFolderError: the folder has files of another origin.
        RepositoryError: the model fits another server.
        OnnxError, EngineError: the model file is not one of this project.
    """
    serving = serving or Serving()
    with writing(output):
        refuse_foreign_folder(output, _STAGE)
        if is_served(output):
            raise RepositoryInUse(
                f"{output}: expected a folder that no server runs from, got one that is served;"
                " add a version with `tools build-repo --version 2`, or stop the server"
            )
        network, spec = network_of(model, serving)
        spec = spec.with_limits(spec.limits, limits)
        with disk_errors(output), _replacing(output) as folder:
            write_version(folder, FIRST_VERSION, model, spec, serving)
            write_configs(folder, spec, serving)
            _write_warmup(folder, spec, serving)
        return write_repository_record(output, _record_of(output, network, serving))


def write_version(
    folder: Path, version: int, model: Path, spec: PipelineSpec, serving: Serving
) -> None:
    """Write `folder`/<model>/<version> of every model of the pipeline, each complete in itself."""
    for source in sorted(MODEL_SOURCES.glob(f"*/{FIRST_VERSION}/*")):
        if source.is_file():
            copy = folder / source.parents[1].name / str(version) / source.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    place = folder / NETWORK / str(version)
    if serving.backend is not NetworkBackend.PYTHON:
        (place / "model.py").unlink()
    (place / PIPELINE).write_text(spec.to_json())
    shutil.copyfile(model, place / serving.model_file)
    if serving.takes_a_plan:  # so that `check-repo` and the network's step know its version
        shutil.copyfile(record_path(model), record_path(place / serving.model_file))
    for model_py in folder.glob(f"*/{version}/model.py"):
        _copy_python(RUNTIME, model_py.parent / RUNTIME.name)
        (model_py.parent / PIPELINE).write_text(spec.to_json())
        write_manifest(model_py.parent)


def network_of(model: Path, serving: Serving) -> tuple[Artifact, PipelineSpec]:
    """The network's file and its pipeline.

    Raises:
        RepositoryError: the file is a plan, and the server has no GPU.
        OnnxError, EngineError: it is not a file of this project.
    """
    if serving.takes_a_plan:
        from .plans import open_plan

        plan, spec, _ = open_plan(model)
        return plan, spec
    onnx = Artifact.open(model)
    if model.suffix == Path(MODEL_FILES[NetworkBackend.TENSORRT]).suffix:
        raise RepositoryError(
            f"{model}: a plan needs a GPU; run `tools build-repo` with --device cuda, or"
            " --target gpu"
        )
    return onnx, spec_in_onnx(model).with_model(onnx.sha256)


def write_configs(folder: Path, spec: PipelineSpec, serving: Serving | None = None) -> None:
    """Write config.pbtxt of every model of the pipeline into `folder`/<model>/."""
    serving = serving or Serving()
    ensemble = ensemble_of(spec, serving)
    for model in (*ensemble.steps, ensemble):
        (folder / model.name / CONFIG).write_text(render_config(model, serving.triton))


def built_for(repository: Path) -> dict[str, str]:
    """`target` and `triton_version` of a repository; without a record the embedded server's."""
    embedded = Serving()
    known = {"target": str(embedded.target), "triton_version": str(embedded.triton)}
    with contextlib.suppress(RecordError):
        known |= repository_record(repository)["settings"]
    return known


def built_by(repository: Path) -> str:
    """The release of bodypose-triton that built a repository; without a record, this one."""
    with contextlib.suppress(RecordError):
        versions = repository_record(repository).get("versions")
        if isinstance(versions, dict):
            return str(versions.get(_DISTRIBUTION, __version__))
    return __version__


def another_release(repository: Path, release: str) -> str:
    """The line about a repository that another release built."""
    return (
        f"{repository}: built by bodypose-triton {release} and served as it was built; `tools"
        f" build-repo -o OTHER` builds one of {__version__}"
    )


def is_int8(repository: Path) -> bool:
    """Whether an ONNX graph of any version in the repository has quantised layers."""
    graphs = (repository / NETWORK).glob("*/*.onnx")
    return any(b"QuantizeLinear" in graph.read_bytes() for graph in graphs)


def serving_of_repository(repository: Path) -> Serving:
    """The server and settings that a repository was built for, from its record.

    Raises:
        RecordError: there is no record of `tools build-repo`.
    """
    settings = repository_record(repository)["settings"]
    try:
        return Serving(
            ServerTarget(settings["target"]),
            NetworkBackend(settings["network_backend"]),
            TritonVersion.parse(settings["triton_version"]),
            read_config(repository / ENSEMBLE / CONFIG).max_batch_size,
            plan_batch=int(settings.get("plan_batch", 0)),
        )
    except (KeyError, ValueError) as error:
        raise RecordError(
            f"{record_path(repository)}: expected the settings of `tools build-repo`, got {error}"
        ) from error


def repository_record(repository: Path) -> dict[str, Any]:
    """The record that the build, and every promotion since, has written.

    Raises:
        RecordError: there is no record of `tools build-repo`.
    """
    keys = {"stage": str, "settings": dict, "parents": list, "files": dict, "served": list}
    record = read_record(record_path(repository), keys)
    if not record["served"] or not all(
        type(each) is int and each >= 1 for each in record["served"]
    ):
        raise RecordError(
            f"{record_path(repository)}: expected versions from 1 on in `served`, got"
            f" {record['served']!a:.60}"
        )
    return record


def version_in_use(repository: Path) -> int:
    """The version that answers requests; the first without a record."""
    try:
        return int(repository_record(repository)["served"][-1])
    except RecordError:
        return FIRST_VERSION


def spec_of(repository: Path, version: int) -> PipelineSpec:
    """The description of one version's pipeline.

    Raises:
        SpecError: it cannot be read.
    """
    return PipelineSpec.load(repository / GROUPING / str(version) / PIPELINE)


def changes_since_build(repository: Path, besides: int | None = None) -> list[str]:
    """One line for each file that is not as `tools build-repo` wrote it; empty when all are.

    Files of the version `besides` do not count.
    """
    if not repository.is_dir():
        return [f"{repository}: expected a model repository, got nothing; run `tools build-repo`"]
    try:
        recorded = repository_record(repository)["files"]
    except RecordError as error:
        return [f"{error}; run `tools build-repo`"]
    return [
        f"{repository / name} {problem}; run `tools build-repo`"
        for name, problem in changes(repository, recorded).items()
        if name.split("/")[1:2] != [str(besides)]
    ]


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


def _copy_python(package: Path, copy: Path) -> None:
    copy.mkdir()
    for source in sorted(package.glob("*.py")):
        shutil.copyfile(source, copy / source.name)


def _write_warmup(folder: Path, spec: PipelineSpec, serving: Serving) -> None:
    from pose_runtime.card_jpeg import for_card

    jpeg = _warmup_image(spec.network_hw)
    image = for_card(checked_image(jpeg, ImageLimits()), spec.network_hw)
    data = {
        spec.image.name: _serialised(jpeg),
        spec.encoded.name: _serialised(image.pack() if image else jpeg),
        spec.geometry.name: Letterbox.fit(spec.network_hw, spec.network_hw).to_geometry().tobytes(),
    }
    for model in ensemble_of(spec, serving).steps:
        for name in {tensor.name for tensor in model.inputs} & set(model.warmup_files):
            path = folder / model.name / "warmup" / name
            path.parent.mkdir()
            path.write_bytes(data[name])


def _warmup_image(network_hw: tuple[int, int]) -> bytes:
    """A JPEG nearly twice the network's size, which is decoded whole."""
    import simplejpeg

    rows, columns = np.mgrid[: 2 * network_hw[0] - 8, : 2 * network_hw[1] - 8]
    pixels = np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=90))


def _serialised(text: bytes) -> bytes:
    """A string as Triton serialises it: length, then bytes."""
    return len(text).to_bytes(4, "little") + text


def _record_of(repository: Path, model: Artifact, serving: Serving) -> dict[str, Any]:
    return {
        "file": repository.name,
        "stage": _STAGE,
        "parents": [{"file": model.path.name, "sha256": model.sha256}],
        "settings": {
            "target": str(serving.target),
            "network_backend": str(serving.backend),
            "triton_version": str(serving.triton),
            **({"plan_batch": serving.plan_batch} if serving.plan_batch else {}),
        },
        "versions": {_DISTRIBUTION: __version__},
        "served": [FIRST_VERSION],  # the versions that answered, in order
    }


def write_repository_record(repository: Path, record: dict[str, Any]) -> Path:
    """The record with the sha256 of every file as it is now."""
    record = {**record, "files": listing(repository)}
    write_record(record_path(repository), record)
    return record_path(repository)
