"""One run of the benchmark: its subjects in order, and its record."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.json_records import RecordError, read_record
from bodypose_tools.results.machine import machine
from bodypose_tools.results.record import KEY
from pose_runtime.errors import PoseError
from pose_runtime.extras import install_line

from .conditions import Setting
from .settings import Effort

if TYPE_CHECKING:
    from .rivals import Contest

SCHEMA = "bodypose-performance/2"
GPU_SCHEMA = "bodypose-gpu/2"


class BenchmarkError(PoseError):
    """A subject does not exist, or a file has no results of the benchmark."""


def subjects_of(contest: Contest) -> Mapping[str, Callable[[Setting], Any]]:
    """The benchmark's subjects by name, in the order of a run."""
    from . import decoding, preprocessing, rivals, runtimes, serving

    return {
        "decoding": decoding.measure,
        "preprocessing": preprocessing.measure,
        "runtimes": runtimes.measure,
        "serving": serving.measure,
        "rivals": partial(rivals.measure, contest=contest),
    }


def run_benchmark(
    setting: Setting,
    names: Sequence[str],
    contest: Contest,
    keep: Callable[[dict[str, Any]], None] = lambda record: None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure the subjects named (all, if none is) on one model, in one run.

    `keep` gets the record after every subject, so that an end of the run loses only one. Subjects
    that are not named stay as in `known`, an earlier record, if it is of this model, effort
    and machine.

    Raises:
        BenchmarkError: there is no such subject, or a package for one is missing.
    """
    subjects = subjects_of(contest)
    if strange := [name for name in names if name not in subjects]:
        raise BenchmarkError(
            f"subject {strange[0]!r}: expected one of {', '.join(subjects)}; see `tools benchmark"
            " --help`"
        )
    chosen = names or tuple(subjects)
    if "rivals" in chosen and setting.effort is Effort.FULL:
        _refuse_missing_packages()
    model = Artifact.open(setting.model)
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "model": {"name": setting.model.name, "sha256": model.sha256},
        "network_hw": setting.spec.network_hw,
        "effort": str(setting.effort),
        "threads": setting.threads,
    }
    if known and _setting_of(known) == _setting_of({**record, KEY: {"machine": machine()}}):
        record |= {name: known[name] for name in subjects if name in known and name not in chosen}
    for name in chosen:
        setting.say(name)
        record[name] = subjects[name](setting)
        keep(record)
    return record


def _setting_of(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two records have in common whose subjects may stand in one."""
    return *(record[part] for part in ("model", "effort", "threads")), record[KEY]["machine"]["cpu"]


def _refuse_missing_packages() -> None:
    """VGG19 is the last to be measured: better known now than in a quarter of an hour."""
    for package in ("keras", "tf2onnx"):
        if importlib.util.find_spec(package) is None:
            raise BenchmarkError(
                f"rivals: expected the package {package} for VGG19, got none; run"
                f" {install_line('train', 'export')}, or leave them out with --subject or --quick"
            )


@contextlib.contextmanager
def results_in(path: Path) -> Iterator[dict[str, Any]]:
    """The record that `tools benchmark` wrote, for a block that makes a page of it.

    Raises:
        BenchmarkError: it is none, or lacks what the block looks for.
    """
    record = read_results(path)
    with page_from(path):
        yield record


@contextlib.contextmanager
def page_from(path: Path) -> Iterator[None]:
    """Inside, whatever a record lacks is one line: many functions read a part of it each."""
    try:
        yield
    except PoseError:
        raise
    except Exception as error:  # a record by another hand may lack anything
        raise BenchmarkError(
            f"{path}: expected results of `tools benchmark`, got a record without a part of them"
            f" ({type(error).__name__}: {' '.join(str(error).split())[:100]}); run `tools benchmark"
            f" -o {path}`"
        ) from error


def read_results(path: Path) -> dict[str, Any]:
    """The record that `tools benchmark` wrote.

    Raises:
        BenchmarkError: no such file, or not the benchmark's.
    """
    try:
        record = read_record(path, {"schema": str})
        if record["schema"] != SCHEMA:
            raise RecordError(f"schema {record['schema']}")
    except RecordError as error:
        raise BenchmarkError(
            f"{path}: expected results of `tools benchmark`, got `{error}`; run `tools benchmark"
            f" -o {path}`"
        ) from error
    return record


def read_gpu_results(path: Path) -> dict[str, Any] | None:
    """The record that `tools benchmark --device cuda` wrote; None for any other file."""
    try:
        record = read_record(path, {"schema": str})
    except RecordError:
        return None
    return record if record["schema"] == GPU_SCHEMA else None
