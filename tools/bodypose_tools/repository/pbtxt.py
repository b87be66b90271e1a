"""config.pbtxt: the models of the pipeline described in Triton's own protobuf."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from bodypose_tools.runtimes.settings import Device
from pose_runtime import __version__
from pose_runtime.spec import ModelSpec, PipelineSpec, TensorSpec

from .releases import EMBEDDED, TritonVersion, knows
from .settings import NetworkBackend
from .targets import MODEL_FILES, Serving

ENSEMBLE = "bodypose"
PREPROCESS = "bodypose_preprocess"
NETWORK = "bodypose_network"
GROUPING = "bodypose_grouping"
STEPS = (PREPROCESS, NETWORK, GROUPING)

# Images between preprocessing and grouping; more are refused at once, so that a client learns of
# overload and the network's inputs (0.3 MB an image) do not fill the memory.
MAX_IMAGES_UNDER_WAY = 64
_ON_A_GPU = 256  # images of some 0.1 s of a GPU's work; 64 images on a few cores take seconds
# Requests in the whole ensemble, where Triton has such a limit: it bounds the queue.
_MAX_REQUESTS_IN_FLIGHT = 4 * MAX_IMAGES_UNDER_WAY
# The backends use all cores that the server may use; the Python backend's threads are in `Tuning`.
_NETWORK_PARAMETERS = {
    NetworkBackend.PYTHON: {},
    NetworkBackend.ONNXRUNTIME: {"intra_op_thread_count": "0"},
    NetworkBackend.OPENVINO: {"NUM_STREAMS": "1"},
    NetworkBackend.TENSORRT: {},
}
# How a backend calls the threads of one of its instances.
THREADS = {
    NetworkBackend.PYTHON: "threads",
    NetworkBackend.ONNXRUNTIME: "intra_op_thread_count",
    NetworkBackend.OPENVINO: "INFERENCE_NUM_THREADS",
}


def ensemble_of(spec: PipelineSpec, serving: Serving | None = None, version: int = 1) -> ModelSpec:
    """The ensemble with its three steps: all models of a repository.

    The steps are pinned to the ensemble's version, so that no answer mixes two versions while one
    replaces another.
    """
    serving = serving or Serving()
    python, batch = NetworkBackend.PYTHON, serving.max_batch_size
    image, geometry = (spec.image.name,), (spec.geometry.name,)
    fields, people = (spec.peaks, spec.limb_scores), (spec.keypoints, spec.scores, spec.num_people)
    made = spec.encoded if decodes_on_gpu(serving) else spec.pixels
    placed = (made, spec.geometry, spec.image_hw, spec.place)
    # A network that is not ours takes pixels only: places go past it to grouping.
    taken = (made, spec.place) if serving.backend is python else (made,)
    steps = (
        _step(PREPROCESS, python, batch, (spec.image,), placed, image),
        _step(NETWORK, serving.backend, batch, taken, fields, (spec.encoded.name,)),
        _step(GROUPING, python, batch, (*fields, spec.geometry, spec.place), people, geometry),
    )
    return ModelSpec(
        ENSEMBLE,
        "",
        steps[0].inputs,
        steps[-1].outputs,
        batch,
        parameters=ensemble_parameters(spec),
        steps=tuple(replace(_tuned(step, serving), versions=(version,)) for step in steps),
        versions=(version,),
    )


def decodes_on_gpu(serving: Serving) -> bool:
    """Whether JPEGs go to the network's step as they are."""
    is_ours = serving.backend is NetworkBackend.PYTHON
    return is_ours and serving.tuning.decodes_on == Device.CUDA


def ensemble_parameters(spec: PipelineSpec) -> dict[str, str]:
    """The parameters of the ensemble's config, which a client reads."""
    return {
        "pipeline": json.dumps(json.loads(spec.to_json()), separators=(",", ":")),
        "model_sha256": spec.model_sha256,
        "version": __version__,
    }


def render_config(model: ModelSpec, triton_version: TritonVersion = EMBEDDED) -> str:
    """The text of one model's config.pbtxt: same spec, same text."""
    config = triton.ModelConfig(
        name=model.name,
        max_batch_size=model.max_batch_size,
        input=[_input(tensor) for tensor in model.inputs],
        output=[_tensor(triton.ModelOutput, tensor) for tensor in model.outputs],
    )
    config.version_policy.specific.versions.extend(model.versions)
    for key, value in model.parameters.items():
        config.parameters[key].string_value = value
    if model.steps:
        config.platform = "ensemble"
        taken = {tensor.name for step in (*model.steps, model) for tensor in step.inputs}
        taken |= {tensor.name for tensor in model.outputs}
        steps = [_ensemble_step(step, taken) for step in model.steps]
        config.ensemble_scheduling.step.extend(steps)
        if knows(triton_version, "max_inflight_requests"):
            config.ensemble_scheduling.max_inflight_requests = _MAX_REQUESTS_IN_FLIGHT
    else:
        config.backend = model.backend
        if model.backend != NetworkBackend.PYTHON:
            config.default_model_filename = MODEL_FILES[NetworkBackend(model.backend)]
        _schedule(config, model)
    return config_text(config)


def config_text(config: Any) -> str:
    """The text of a config; equal configs have equal texts."""
    return f"# Written by `tools build-repo`.\n{text_format.MessageToString(config)}"


def read_config(path: Path) -> Any:
    """A config.pbtxt as protobuf.

    Raises:
        text_format.ParseError: Triton would not read it; the message names the line.
    """
    return text_format.Parse(path.read_text(), triton.ModelConfig())


def data_type_name(data_type: int) -> str:
    """KServe's name ("UINT8", "BYTES") of a config's data type."""
    name = str(triton.DataType.Name(data_type)).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def _step(
    name: str,
    backend: NetworkBackend,
    max_batch_size: int,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    warmup_files: tuple[str, ...],
) -> ModelSpec:
    parameters = {
        PREPROCESS: {"max_images_under_way": str(MAX_IMAGES_UNDER_WAY)},
        NETWORK: _NETWORK_PARAMETERS[backend],
    }
    return ModelSpec(
        name,
        str(backend),
        inputs,
        outputs,
        max_batch_size,
        # Python models compute image by image: in a batch the first image would wait for the last.
        batches_requests=backend is not NetworkBackend.PYTHON,
        warmup_files=warmup_files,
        parameters=parameters.get(name, {}),
    )


def _tuned(step: ModelSpec, serving: Serving) -> ModelSpec:
    tuning = serving.tuning
    if step.name != NETWORK:
        instances = {
            PREPROCESS: tuning.preprocess_instances,
            GROUPING: tuning.grouping_instances,
        }
        step = replace(
            step,
            instances=instances[step.name],
            batches_requests=tuning.requests_at_once > 1,
            max_batch_size=max(step.max_batch_size, tuning.requests_at_once),
        )
        if step.name == PREPROCESS and tuning.device == Device.CUDA:
            step = replace(step, parameters={"max_images_under_way": str(_ON_A_GPU)})
        if step.name == PREPROCESS and decodes_on_gpu(serving):
            step = replace(step, parameters={**step.parameters, "decodes_on": Device.CUDA})
        return step
    step = replace(
        step, instances=tuning.network_instances, max_queue_delay_us=tuning.queue_delay_us
    )
    if serving.backend is NetworkBackend.PYTHON:
        step = replace(
            step,
            parameters=_runtime_parameters(serving),
            batches_requests=tuning.network_batch > 1,
            max_batch_size=max(step.max_batch_size, tuning.network_batch),
        )
    elif tuning.threads and (name := THREADS.get(serving.backend)):
        step = replace(step, parameters={**step.parameters, name: str(tuning.threads)})
    return step


def _runtime_parameters(serving: Serving) -> dict[str, str]:
    """The parameters of the network's Python model: its runtime, and that runtime's settings."""
    tuning = serving.tuning
    if serving.plan_batch:
        return {"runtime": "tensorrt"}
    if tuning.device == Device.CUDA:
        batches = ",".join(map(str, tuning.fixed_batches))
        decoding = {} if tuning.decodes_on == Device.CPU else {"decodes_on": tuning.decodes_on}
        return {"runtime": "cuda", "precision": tuning.precision, "batches": batches, **decoding}
    return {
        "runtime": "openvino",
        THREADS[NetworkBackend.PYTHON]: str(tuning.threads),
        "precision": tuning.precision,
        "batch": str(tuning.network_batch),
    }


def _schedule(config: Any, model: ModelSpec) -> None:
    """Set instances, dynamic batching and warm-up, none of which an ensemble may have."""
    on_gpu = model.backend == NetworkBackend.TENSORRT
    kinds = triton.ModelInstanceGroup
    group = config.instance_group.add(
        count=model.instances, kind=kinds.KIND_GPU if on_gpu else kinds.KIND_CPU
    )
    if on_gpu:
        group.profile.append("0")  # the one profile that `tools build-engine` writes
    if model.batches_requests:
        config.dynamic_batching.max_queue_delay_microseconds = model.max_queue_delay_us
    for batch_size in sorted({1, model.max_batch_size}):
        warmup = config.model_warmup.add(name=f"batch of {batch_size}", batch_size=batch_size)
        for tensor in model.inputs:
            if tensor.is_optional:
                continue
            data = warmup.inputs[tensor.name]
            data.data_type, data.dims[:] = _data_type(tensor), tensor.dims
            if tensor.name in model.warmup_files:
                data.input_data_file = tensor.name
            else:
                data.zero_data = True


def _input(tensor: TensorSpec) -> Any:
    declared = _tensor(triton.ModelInput, tensor)
    declared.optional = tensor.is_optional
    return declared


def _tensor(kind: Any, tensor: TensorSpec) -> Any:
    return kind(name=tensor.name, data_type=_data_type(tensor), dims=tensor.dims)


def _data_type(tensor: TensorSpec) -> int:
    name = "STRING" if tensor.dtype == "BYTES" else tensor.dtype
    return int(triton.DataType.Value(f"TYPE_{name}"))


def _ensemble_step(model: ModelSpec, taken: Set[str]) -> Any:
    """One step; of its outputs the ensemble asks for those that somebody takes."""
    return triton.ModelEnsembling.Step(
        model_name=model.name,
        model_version=model.versions[0],
        input_map={tensor.name: tensor.name for tensor in model.inputs},
        output_map={tensor.name: tensor.name for tensor in model.outputs if tensor.name in taken},
    )
