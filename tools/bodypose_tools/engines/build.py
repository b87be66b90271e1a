"""TensorRT engines, built alike for `tensorrt` and for `tensorrt-rtx`.

Networks are strongly typed: the ONNX graph determines the precision, for TensorRT 10.12+ and 11.x
alike. `tensorrt-rtx` parses and builds without a GPU, which proves that NVIDIA's own code takes the
graph; Triton does not load its engines.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.library_messages import is_known
from pose_runtime.errors import EngineError
from pose_runtime.extras import install_line
from pose_runtime.tensorrt_network import logger_of

from .inspector import int8_layers_that_fell_back, layer_counts
from .settings import EngineRuntime, EngineSettings

_HOW_TO_INSTALL: Final = {
    EngineRuntime.TENSORRT: (
        "on the machine with the GPU that will serve, run `pip install 'tensorrt>=10.12'` in the"
        " version of your server, or build inside its image: docker run --rm --gpus all -v"
        " $PWD:/work -w /work nvcr.io/nvidia/tensorrt:YY.MM-py3, with the server's YY.MM"
    ),
    EngineRuntime.TENSORRT_RTX: f"run {install_line('engine')}",
}

# What is read of an engine's record.
_RECORDED: Final = {
    "runtime": str,
    "runtime_version": str,
    "version_compatible": bool,
    "max_batch_size": int,
    "pipeline": dict,
}


@dataclass(frozen=True, slots=True)
class Convolutions:
    """The convolutions of a parsed network by arithmetic."""

    int8: tuple[str, ...]  # names of those that compute in INT8
    other: int  # number of the others

    @property
    def counts(self) -> dict[str, int]:
        """Number of convolutions by arithmetic, for the record."""
        return {"int8": len(self.int8), "other": self.other}


def builder_for(settings: EngineSettings, say: Callable[[str], None]) -> tuple[Any, Any, Any]:
    """NVIDIA's module, a logger and a builder, which exist only where an engine can be built.

    Args:
        settings: of the engine.
        say: gets NVIDIA's warnings by the line.

    Raises:
        EngineError: the runtime is not installed, finds no GPU, or lacks an option asked for.
    """
    trt = load_runtime(settings.runtime)
    _refuse_what_rtx_has_not(settings)

    def warn(message: str) -> None:
        if not is_known(message):
            say(f"{trt.__name__}: {message}")

    logger = logger_of(trt, warn)
    try:
        return trt, logger, trt.Builder(logger)
    except (TypeError, RuntimeError) as error:
        raise EngineError(
            f"{settings.runtime}: expected an NVIDIA GPU, got {logger.last or error}; build on the"
            " machine that will serve, or prove the graph with --runtime tensorrt-rtx"
        ) from error


def build_engine(
    onnx_path: Path, out: Path, settings: EngineSettings, say: Callable[[str], None]
) -> Artifact:
    """Parse an exported graph, and write an engine and its record.

    Args:
        onnx_path: file of `tools export`, with its record.
        out: engine file to write.
        settings: of the engine.
        say: gets NVIDIA's warnings, and a summary of the convolutions.

    Raises:
        EngineError: what `builder_for` raises; the graph has unsigned activations; or the runtime
            does not parse the graph (the message names the operator), does not build it, or runs a
            quantised convolution in float.
        OnnxError, StaleArtifactError: the file is not of `tools export`, or changed since then.
    """
    import onnx

    from bodypose_tools.graphs.quantised import has_unsigned_activations

    parent = Artifact.open(onnx_path)
    spec = spec_in_onnx(onnx_path).with_model(parent.sha256)
    if has_unsigned_activations(onnx.load(onnx_path, load_external_data=False)):
        raise EngineError(
            f"{onnx_path}: expected signed INT8, got unsigned activations, which are for CPUs; run"
            " `tools export --data-type int8` without --unsigned-activations"
        )
    profile = settings.profile(spec)
    trt, logger, builder = builder_for(settings, say)
    network = _network(trt, builder, logger, onnx_path)
    convolutions = find_convolutions(trt, network)
    config = _config(trt, builder, settings)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(spec.pixels.name, profile["min"], profile["opt"], profile["max"])
    config.add_optimization_profile(shapes)
    started = time.monotonic()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{onnx_path}: expected an engine, got {logger.last}")
    seconds = round(time.monotonic() - started, 2)
    on_gpu = settings.runtime is EngineRuntime.TENSORRT  # RTX opens an engine on a GPU only
    layers = _inspect(trt, logger, plan, convolutions) if on_gpu else None
    with atomic_path(out) as temporary:
        temporary.write_bytes(memoryview(plan))
    _keep_timing_cache(config, settings)
    described = {
        "runtime": str(settings.runtime),
        "runtime_version": trt.__version__,
        "gpu": _gpu() if on_gpu else None,
        "profile": profile,
        "max_batch_size": settings.max_batch_size,
        "workspace_mib": settings.workspace_mib,
        "version_compatible": settings.version_compatible,
        "hardware_compatible": settings.hardware_compatible,
        "convolutions_in_graph": convolutions.counts,
        "layers_in_engine": layers,
        "build_s": seconds,
        "pipeline": json.loads(spec.to_json()),
    }
    made = convolutions.counts
    say(f"{made['int8']} INT8 and {made['other']} other convolutions, {seconds} s")
    return Artifact.record(out, "build-engine", parent, settings=described)


def _inspect(trt: Any, logger: Any, plan: Any, convolutions: Convolutions) -> dict[str, int]:
    """How many layers of each type the engine has.

    Raises:
        EngineError: a convolution with INT8 weights in the graph has float weights in the engine.
    """
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f"expected the engine just built to load, got {logger.last}")
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    if fell_back := int8_layers_that_fell_back(text, convolutions.int8):
        raise EngineError(
            f"expected INT8 weights in {len(convolutions.int8)} convolutions, got float in"
            f" {', '.join(fell_back)}; keep them out with `tools export --float-layer NAME`"
        )
    return layer_counts(text)


def load_runtime(runtime: EngineRuntime) -> Any:
    """NVIDIA's Python module.

    Raises:
        EngineError: it is not installed; the message says what to run on which machine.
    """
    try:
        return importlib.import_module(str(runtime).replace("-", "_"))
    except (ImportError, OSError) as error:
        raise EngineError(
            f"expected the package {runtime}, got {error}; {_HOW_TO_INSTALL[runtime]}"
        ) from error


def _refuse_what_rtx_has_not(settings: EngineSettings) -> None:
    if settings.runtime is not EngineRuntime.TENSORRT_RTX:
        return
    asked = {
        "--timing-cache": settings.timing_cache is not None,
        "--version-compatible": settings.version_compatible,
        "--hardware-compatible": settings.hardware_compatible,
    }
    if strays := [name for name, given in asked.items() if given]:
        raise EngineError(f"tensorrt-rtx has no {', '.join(strays)}; use --runtime tensorrt")


def _network(trt: Any, builder: Any, logger: Any, onnx_path: Path) -> Any:
    # Every network of TensorRT 11 is strongly typed; it may lack the flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_path.read_bytes()):
        first = parser.get_error(0)
        raise EngineError(
            f"{onnx_path}: {trt.__name__} {trt.__version__} does not parse {first.node_operator()}"
            f" `{first.node_name()}`: {first.desc()}"
        )
    return network


def find_convolutions(trt: Any, network: Any) -> Convolutions:
    """The convolutions of a parsed network; one computes in INT8 when input and weights are INT8.

    Raises:
        EngineError: a convolution has INT8 weights and float input: it would not run in INT8.
    """
    maker = {}
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    for layer in layers:
        for index in range(layer.num_outputs):
            maker[layer.get_output(index).name] = layer.type
    int8, other = [], 0
    for layer in layers:
        if layer.type != trt.LayerType.CONVOLUTION:
            continue
        kinds = [
            layer.num_inputs > index
            and maker.get(layer.get_input(index).name) == trt.LayerType.DEQUANTIZE
            for index in (0, 1)
        ]
        if kinds[1] and not kinds[0]:
            raise EngineError(f"{layer.name}: expected INT8 input with INT8 weights, got float")
        if all(kinds):
            int8.append(layer.name)
        else:
            other += 1
    return Convolutions(tuple(int8), other)


def _config(trt: Any, builder: Any, settings: EngineSettings) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_mib << 20)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings.timing_cache is not None:
        known = settings.timing_cache.read_bytes() if settings.timing_cache.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False)
    return config


def _keep_timing_cache(config: Any, settings: EngineSettings) -> None:
    if settings.timing_cache is not None:
        with atomic_path(settings.timing_cache) as temporary:
            temporary.write_bytes(memoryview(config.get_timing_cache().serialize()))


def _gpu() -> dict[str, str] | None:
    """Name, driver and compute capability of the first GPU, from nvidia-smi; None without it."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    fields = ("name", "driver_version", "compute_cap")
    query = [command, f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    values = [value.strip() for value in (answer.splitlines() or [""])[0].split(",")]
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else None


def engine_record(plan: Path) -> dict[str, Any]:
    """The settings that `build_engine` recorded beside an engine.

    Raises:
        EngineError: the file has no such record.
        StaleArtifactError: the engine changed after it was built.
    """
    artifact = Artifact.open(plan)
    wrong = [key for key, kind in _RECORDED.items() if type(artifact.settings.get(key)) is not kind]
    if artifact.settings.get("runtime") not in [*EngineRuntime]:
        wrong = wrong or ["runtime"]
    if wrong:
        raise EngineError(
            f"{plan}: expected a record of `tools build-engine` beside it, got none that fits in"
            f" {', '.join(wrong)}; run it"
        )
    described: dict[str, Any] = json.loads(json.dumps(dict(artifact.settings)))
    return described
