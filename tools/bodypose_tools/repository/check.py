"""The check of a repository without a server: one line for every problem."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from bodypose_tools.files.artifacts import sha256_of
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.runtimes.settings import Device
from pose_runtime import __version__
from pose_runtime.errors import PoseError
from pose_runtime.integrity import MANIFEST
from pose_runtime.spec import ModelSpec, PipelineSpec

from .build import (
    CONFIG,
    ONNX,
    PIPELINE,
    RUNTIME,
    built_by,
    built_for,
    changes_since_build,
    version_in_use,
)
from .pbtxt import NETWORK, data_type_name, ensemble_of, read_config
from .plans import plan_problems
from .releases import TritonVersion, knows
from .settings import NetworkBackend
from .targets import Serving
from .tuning import UNTUNED, UNTUNED_CUDA_DECODING

REBUILD = "run `tools build-repo`"
Signature = dict[str, tuple[str, tuple[int, ...]]]  # tensor -> dtype, dims


def problems_of(repository: Path, triton: TritonVersion | None = None) -> list[str]:
    """One line for each part that would not load or does not fit another; empty when all is sound.

    Args:
        repository: folder of `tools build-repo`.
        triton: release of the server; None: the one that the repository was built for.
    """
    problems = changes_since_build(repository)
    triton = triton or TritonVersion.parse(built_for(repository)["triton_version"])
    is_ours = built_by(repository) == __version__
    configs, unreadable = _configs_in(repository)
    problems += unreadable
    for config in configs.values():
        problems += _folder_problems(repository / config.name, config, is_ours=is_ours)
        if config.HasField("ensemble_scheduling"):
            problems += _wiring_problems(config, configs)
    problems += _pipeline_problems(repository, configs, is_ours=is_ours)
    problems += _network_problems(repository)
    batch = configs[NETWORK].max_batch_size if NETWORK in configs else 0
    in_python = NETWORK in configs and configs[NETWORK].backend == NetworkBackend.PYTHON
    problems += plan_problems(repository, None if in_python else triton, batch)
    problems += _release_problems(configs, triton)
    return problems


def _release_problems(configs: dict[str, Any], triton: TritonVersion) -> Iterator[str]:
    """Fields of the configs that this release of Triton would refuse."""
    for config in configs.values():
        limit = config.ensemble_scheduling.max_inflight_requests
        if limit and not knows(triton, "max_inflight_requests"):
            yield (
                f"{config.name}: expected no max_inflight_requests for Triton {triton}, got"
                f" {limit}; run `tools build-repo --triton-version {triton}`"
            )


def _configs_in(repository: Path) -> tuple[dict[str, Any], list[str]]:
    configs, problems = {}, []
    for path in sorted(repository.glob(f"*/{CONFIG}")):
        try:
            config = read_config(path)
        except (text_format.ParseError, UnicodeDecodeError) as error:
            problems.append(
                f"{path}: expected a config that Triton reads, got `{error}`; {REBUILD}"
            )
            continue
        if config.name != path.parent.name:
            problems.append(
                f"{path}: expected the name of its folder, got `{config.name}`; {REBUILD}"
            )
        configs[path.parent.name] = config
    return configs, problems


def _folder_problems(folder: Path, config: Any, *, is_ours: bool) -> Iterator[str]:
    """Files that a model's folder lacks: its version, its runtime, its warm-up files.

    Another release had other files in its runtime; the record names them.
    """
    versions = [path for path in folder.glob("*") if path.is_dir() and path.name.isdigit()]
    if not versions:
        yield f"{folder}: expected a version folder such as `1`, got none; {REBUILD}"
    for warmup in config.model_warmup:
        for data in warmup.inputs.values():
            if data.input_data_file and not (folder / "warmup" / data.input_data_file).is_file():
                yield f"{folder}/warmup/{data.input_data_file}: expected a file; {REBUILD}"
    if config.backend != "python":
        return
    runtime = [f"{RUNTIME.name}/{path.name}" for path in RUNTIME.glob("*.py")] if is_ours else []
    needed = ["model.py", MANIFEST, PIPELINE, *runtime]
    for version in versions:
        for name in sorted(needed):
            if not (version / name).is_file():
                yield f"{version / name}: expected a file, got nothing; {REBUILD}"


def _wiring_problems(ensemble: Any, configs: dict[str, Any]) -> Iterator[str]:
    """Tensors of an ensemble and of its steps that do not match."""
    flowing = _signature(ensemble.input)
    for step in ensemble.ensemble_scheduling.step:
        where = f"{ensemble.name}, step {step.model_name}"
        if step.model_name not in configs:
            yield f"{where}: expected a model of that name, got none; {REBUILD}"
            continue
        model = configs[step.model_name]
        if model.max_batch_size < ensemble.max_batch_size:
            yield (
                f"{where}: expected max_batch_size of at least {ensemble.max_batch_size},"
                f" got {model.max_batch_size}; {REBUILD}"
            )
        inputs, outputs = _signature(model.input), _signature(model.output)
        given = {name: flowing.get(source) for name, source in step.input_map.items()}
        yield from _differences(f"{where}, inputs", inputs, given)
        made = {name: outputs.get(name) for name in step.output_map}
        yield from _differences(f"{where}, outputs", {n: outputs.get(n) for n in made}, made)
        flowing |= {
            target: outputs[name] for name, target in step.output_map.items() if name in outputs
        }
    answers = _signature(ensemble.output)
    yield from _differences(
        f"{ensemble.name}, outputs", answers, {name: flowing.get(name) for name in answers}
    )


def _signature(tensors: Iterable[Any]) -> Signature:
    return {
        tensor.name: (data_type_name(tensor.data_type), tuple(tensor.dims)) for tensor in tensors
    }


def _differences(where: str, expected: Any, got: Any) -> Iterator[str]:
    for name in sorted(expected.keys() | got.keys()):
        if expected.get(name) != got.get(name) or expected.get(name) is None:
            yield (
                f"{where}: expected `{name}` {_text(expected.get(name))}, got"
                f" {_text(got.get(name))}; {REBUILD}"
            )


def _text(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return f"{tensor[0]} {list(tensor[1])}" if tensor else "nothing"


def _pipeline_problems(
    repository: Path, configs: dict[str, Any], *, is_ours: bool
) -> Iterator[str]:
    """Differences between configs and pipeline.json, or between two pipeline.json of a version.

    The steps of another release may pass other tensors.
    """
    version = version_in_use(repository)
    versions = {path.parent.name for path in repository.glob(f"*/*/{PIPELINE}")}
    for name in sorted(versions, key=lambda name: (name != str(version), name)):
        yield from _version_problems(
            repository, name, configs if is_ours and name == str(version) else None
        )


def _version_problems(
    repository: Path, version: str, configs: dict[str, Any] | None
) -> Iterator[str]:
    first: tuple[Path, PipelineSpec] | None = None
    for path in sorted(repository.glob(f"*/{version}/{PIPELINE}")):
        try:
            spec = PipelineSpec.load(path)
        except (PoseError, UnicodeDecodeError) as error:
            yield f"{path}: {error}"
            continue
        if first is None:
            first = path, spec
            if configs is not None:
                yield from _config_problems(ensemble_of(spec, _serving_in(configs)), configs)
        elif spec != first[1]:
            yield f"{path}: expected the same pipeline as {first[0]}, got another; {REBUILD}"


def _serving_in(configs: dict[str, Any]) -> Serving:
    """With what decides the steps' tensors: the network's backend, and where JPEGs are decoded."""
    with contextlib.suppress(KeyError, ValueError):
        network = configs[NETWORK]
        decodes = network.parameters["decodes_on"].string_value == Device.CUDA
        tuning = UNTUNED_CUDA_DECODING if decodes else UNTUNED
        return Serving(backend=NetworkBackend(network.backend), tuning=tuning)
    return Serving()


def other_steps(repository: Path, spec: PipelineSpec) -> list[str]:
    """Where the steps that this release builds for `spec` pass other tensors than a repository's.

    Empty when a version of this release fits beside the versions that are there.
    """
    configs, _ = _configs_in(repository)
    return list(_config_problems(ensemble_of(spec, _serving_in(configs)), configs))


def _config_problems(ensemble: ModelSpec, configs: dict[str, Any]) -> Iterator[str]:
    for model in (*ensemble.steps, ensemble):
        config = configs.get(model.name)
        if config is None:
            yield f"{model.name}: expected this model, got none that can be read; {REBUILD}"
            continue
        for kind, tensors, declared in (
            ("inputs", model.inputs, config.input),
            ("outputs", model.outputs, config.output),
        ):
            wanted = {tensor.name: (tensor.dtype, tensor.dims) for tensor in tensors}
            yield from _differences(f"{model.name}, {kind}", wanted, _signature(declared))


def _network_problems(repository: Path) -> Iterator[str]:
    """ONNX files that are not the ones that pipeline.json describes."""
    for path in sorted(repository.glob(f"*/*/{ONNX}")):
        try:
            described = spec_in_onnx(path)
            spec = PipelineSpec.load(path.with_name(PIPELINE))
        except (PoseError, OSError) as error:
            yield str(error)
            continue
        # `build-repo` chooses the limits.
        if described.with_model(sha256_of(path)).with_limits(spec.limits, {}) != spec:
            yield (
                f"{path}: expected the model that {PIPELINE} beside it names, got another;"
                f" {REBUILD}"
            )
