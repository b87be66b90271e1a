"""Versions of a repository: adding one, letting it answer, returning to the one before.

A server in Triton's poll mode follows the files. The steps load the new version beside the old
one. When they are ready, the ensemble, which is pinned to the steps of its own version, changes to
it. Only then do the steps unload the old version. So each answer comes from one version, and one
version always answers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from bodypose_tools.files.atomic_files import atomic_path, disk_errors
from pose_runtime import __version__
from pose_runtime.spec import PipelineSpec

from .build import (
    CONFIG,
    RepositoryError,
    built_by,
    changes_since_build,
    network_of,
    repository_record,
    serving_of_repository,
    spec_of,
    write_repository_record,
    write_version,
)
from .check import other_steps, problems_of
from .lock import writing
from .pbtxt import ENSEMBLE, STEPS, config_text, ensemble_parameters, read_config

# Whether the server has this version of this model ready.
Ready = Callable[[str, int], bool]


def add_version(
    model: Path,
    repository: Path,
    version: int,
    limits: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Add `model` to `repository` as another version, which does not answer yet.

    Args:
        model: as for `build_repository`, with the inputs and outputs of the versions before.
        repository: built before; a server may run from it.
        version: a new number.
        limits: fields of `ImageLimits` that differ from those of the version that answers now.

    Returns:
        The path of the repository's record.

    Raises:
        RepositoryError: the folder is not as it was built, the version is there already, or the
            model has another skeleton, input size or number of people.
    """
    with writing(repository):
        if changes := changes_since_build(repository, besides=version):
            raise RepositoryError(changes[0])
        record = repository_record(repository)
        if version in versions_in(record):
            raise RepositoryError(
                f"{repository}: expected a new version, got {version}; it has"
                f" {_commas(versions_in(record))} already"
            )
        serving = serving_of_repository(repository)
        network, spec = network_of(model, serving)
        serves_now = spec_of(repository, record["served"][-1])
        _refuse_another_wire(model, spec, serves_now)
        if other_steps(repository, spec):
            raise RepositoryError(
                f"{repository}: expected the steps of bodypose-triton {__version__}, got those of"
                f" {built_by(repository)}, which pass other tensors; build a repository beside it"
                " (`tools build-repo -o OTHER`), serve that, then stop the server of this one"
            )
        spec = spec.with_limits(serves_now.limits, limits)
        _discard(repository, version)  # of a build that was killed
        staging = TemporaryDirectory(dir=repository.parent, prefix=f".{repository.name}-")
        with disk_errors(repository), staging as folder:
            write_version(Path(folder), version, model, spec, serving)
            for name in (*STEPS, ENSEMBLE):
                (Path(folder) / name / str(version)).rename(repository / name / str(version))
        record["parents"].append({"file": model.name, "sha256": network.sha256})
        return write_repository_record(repository, record)


def promote(
    repository: Path, version: int, ready: Ready | None = None, timeout_s: float = 60
) -> None:
    """Let `version` answer requests from now on.

    Args:
        repository: built before.
        version: added by `add_version`, or an older one.
        ready: asks the server that runs from the folder; None: no server does.
        timeout_s: time in which the server must have the version ready.

    Raises:
        RepositoryError: the version is not sound, or the server does not load it in time; the old
            version keeps answering.
    """
    with writing(repository):
        record = repository_record(repository)
        _switch(repository, record, version, ready, timeout_s)
        record["served"].append(version)
        write_repository_record(repository, record)


def rollback(repository: Path, ready: Ready | None = None, timeout_s: float = 60) -> int:
    """Let the version answer that answered before the last `promote`.

    Returns:
        Its number.

    Raises:
        RepositoryError: there was none, or as for `promote`.
    """
    with writing(repository):
        record = repository_record(repository)
        if len(record["served"]) < 2:
            raise RepositoryError(
                f"{repository}: expected a version that answered before {record['served'][-1]},"
                " got none"
            )
        version = int(record["served"][-2])
        _switch(repository, record, version, ready, timeout_s)
        record["served"].pop()
        write_repository_record(repository, record)
        return version


def versions_in(record: dict[str, Any]) -> list[int]:
    """The versions of a repository, from its record."""
    folders = {name.split("/")[1] for name in record["files"] if name.startswith(f"{ENSEMBLE}/")}
    return sorted(int(folder) for folder in folders if folder.isdigit())


def _switch(
    repository: Path, record: dict[str, Any], version: int, ready: Ready | None, timeout_s: float
) -> None:
    current = int(record["served"][-1])
    if version not in versions_in(record):
        raise RepositoryError(
            f"{repository}: expected one of the versions {_commas(versions_in(record))}, got"
            f" {version}; run `tools build-repo MODEL.onnx --version {version}`"
        )
    if version == current:
        raise RepositoryError(
            f"{repository}: expected another version than {current}, which answers already"
        )
    _answer_with(repository, current)  # the last `promote` may have been killed
    if problems := problems_of(repository):
        raise RepositoryError(
            f"version {version}: {problems[0]}; version {current} keeps answering"
        )
    try:
        _load(repository, current, version)
        _wait(ready, STEPS, version, timeout_s)
        _point_ensemble(repository, version)
        _wait(ready, (ENSEMBLE,), version, timeout_s)
    except BaseException as error:
        _answer_with(repository, current)
        if isinstance(error, RepositoryError):
            raise RepositoryError(f"{error}; version {current} keeps answering") from error
        raise
    _load(repository, version)


def _wait(ready: Ready | None, models: tuple[str, ...], version: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while ready and (missing := [name for name in models if not ready(name, version)]):
        if time.monotonic() > deadline:
            raise RepositoryError(
                f"version {version}: expected {_commas(missing)} ready within {timeout_s:g} s, got"
                " none; the server's log says why (it follows with --model-control-mode poll only)"
            )
        time.sleep(0.1)


def _answer_with(repository: Path, version: int) -> None:
    _point_ensemble(repository, version)
    _load(repository, version)


def _load(repository: Path, *versions: int) -> None:
    """Write into the configs of the steps the versions that the server is to load."""
    for name in STEPS:
        config = read_config(repository / name / CONFIG)
        if list(config.version_policy.specific.versions) != sorted(versions):
            config.version_policy.specific.versions[:] = sorted(versions)
            _write(repository / name / CONFIG, config)


def _point_ensemble(repository: Path, version: int) -> None:
    config = read_config(repository / ENSEMBLE / CONFIG)
    if list(config.version_policy.specific.versions) == [version]:
        return  # another release may have written it, in other words
    config.version_policy.specific.versions[:] = [version]
    for step in config.ensemble_scheduling.step:
        step.model_version = version
    for key, value in ensemble_parameters(spec_of(repository, version)).items():
        config.parameters[key].string_value = value
    _write(repository / ENSEMBLE / CONFIG, config)


def _write(path: Path, config: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(config_text(config))


def _refuse_another_wire(model: Path, new: PipelineSpec, old: PipelineSpec) -> None:
    for name in ("skeleton", "network_hw", "max_peaks", "max_people"):
        wanted, got = getattr(old, name), getattr(new, name)
        if wanted != got:
            if name == "skeleton":
                wanted, got = wanted.name, f"{got.name}, which is another"
            raise RepositoryError(
                f"{model}: expected {name} {wanted}, as the versions before, got {got}; build"
                " another repository, because clients of this one would not understand it"
            )


def _discard(repository: Path, version: int) -> None:
    for name in (*STEPS, ENSEMBLE):
        shutil.rmtree(repository / name / str(version), ignore_errors=True)


def _commas(items: Any) -> str:
    return ", ".join(map(str, items))
