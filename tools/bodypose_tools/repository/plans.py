"""TensorRT plans for Triton: the record of a plan, and its mismatches with a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bodypose_tools.engines.build import engine_record
from bodypose_tools.engines.settings import EngineRuntime
from bodypose_tools.files.artifacts import Artifact
from pose_runtime.errors import EngineError, PoseError
from pose_runtime.spec import PipelineSpec

from .releases import TritonVersion, why_plan_does_not_load
from .settings import NetworkBackend
from .targets import MODEL_FILES, Serving, gpu, plan_in_python
from .tuning import UNTUNED, Tuning

PLAN = MODEL_FILES[NetworkBackend.TENSORRT]


def open_plan(plan: Path) -> tuple[Artifact, PipelineSpec, dict[str, Any]]:
    """A plan that Triton can load, its pipeline, and its record.

    Raises:
        EngineError: the file is an ONNX file, lacks a record of `tools build-engine`, or is an
            engine of TensorRT-RTX.
        MissingArtifactError, StaleArtifactError: no such file, or it changed after it was made.
    """
    artifact = Artifact.open(plan)
    if plan.suffix == ".onnx":
        raise EngineError(
            f"{plan}: expected a plan for a server with a GPU, got an ONNX file; run `tools"
            " build-engine` on the GPU that will serve"
        )
    record = engine_record(plan)
    if record["runtime"] != EngineRuntime.TENSORRT:
        raise EngineError(
            f"{plan}: expected an engine of {EngineRuntime.TENSORRT}, got {record['runtime']},"
            " which Triton does not load; run `tools build-engine --runtime tensorrt` on the GPU"
            " that will serve"
        )
    spec = PipelineSpec.from_json(json.dumps(record["pipeline"]))
    return artifact, spec.with_model(artifact.sha256), record


def serving_of_plan(plan: Path, triton: TritonVersion, tuning: Tuning = UNTUNED) -> Serving:
    """The server for a plan: its batch size from the plan's record, and the release.

    Raises:
        EngineError: what `open_plan` raises, or the release has another TensorRT.
    """
    _, _, record = open_plan(plan)
    if reason := _mismatch(record, triton):
        raise EngineError(f"{plan}: {reason}")
    return gpu(record["max_batch_size"], triton, tuning)


def serving_in_python(plan: Path, tuning: Tuning) -> Serving:
    """The embedded server for a plan, which model.py runs.

    Raises:
        EngineError: what `open_plan` raises, or the GPU is to decode JPEGs, too.
    """
    _, _, record = open_plan(plan)
    if tuning.decodes_on != "cpu":
        raise EngineError(
            f"{plan}: expected an ONNX file where the GPU decodes JPEGs, got a plan; leave out"
            " --preprocess cuda"
        )
    return plan_in_python(record["max_batch_size"], tuning)


def plan_problems(repository: Path, triton: TritonVersion | None, batch: int) -> Iterator[str]:
    """One line for each plan of a repository that would not load.

    Args:
        repository: folder of `tools build-repo --target gpu`.
        triton: release of the server; None: model.py runs the plan, whose version it checks.
        batch: the largest batch that the network's config allows.
    """
    for path in sorted(repository.glob(f"*/*/{PLAN}")):
        try:
            _, spec, record = open_plan(path)
            described = PipelineSpec.load(path.with_name("pipeline.json"))
        except (PoseError, OSError) as error:
            yield str(error)
            continue
        if spec.with_limits(described.limits, {}) != described:  # `build-repo` chooses limits
            yield (
                f"{path}: expected the engine that pipeline.json beside it names, got another; run"
                " `tools build-repo`"
            )
        if batch > record["max_batch_size"]:
            yield (
                f"{path}: expected max_batch_size of at most {record['max_batch_size']}, which the"
                f" engine was built for, got {batch} in its config; run `tools build-repo`"
            )
        if triton and (reason := _mismatch(record, triton)):
            yield f"{path}: {reason}"


def _mismatch(record: dict[str, Any], triton: TritonVersion) -> str | None:
    has = why_plan_does_not_load(record["runtime_version"], record["version_compatible"], triton)
    if has is None:
        return None
    return (
        f"expected an engine for Triton {triton}, which has {has}, got one built with TensorRT"
        f" {record['runtime_version']}; run `tools build-engine` in the TensorRT image {triton}, or"
        " give the server's --triton-version"
    )
