"""Owns config.pbtxt: the pipeline's models described for Triton, through Triton's own protobuf."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from pose_runtime.spec import ModelSpec, PipelineSpec, TensorSpec

ENSEMBLE = "bodypose"
PREPROCESS = "bodypose_preprocess"
NETWORK = "bodypose_network"
GROUPING = "bodypose_grouping"

MAX_BATCH_SIZE = 8
# Requests that may wait in front of one model; more are refused at once, so that a client learns
# of overload and the network's inputs (0.3 MB an image) do not pile up.
MAX_QUEUE_SIZE = 64


def ensemble_of(spec: PipelineSpec) -> ModelSpec:
    """The ensemble, with its three steps: everything that a repository holds."""
    steps = (
        _step(PREPROCESS, (spec.image,), (spec.pixels, spec.geometry), (spec.image.name,)),
        # 0 threads: as many as the server may use where it runs.
        _step(NETWORK, (spec.pixels,), (spec.peaks, spec.limb_scores), (), {"threads": "0"}),
        _step(
            GROUPING,
            (spec.peaks, spec.limb_scores, spec.geometry),
            (spec.keypoints, spec.scores, spec.num_people),
            (spec.geometry.name,),
        ),
    )
    return ModelSpec(
        ENSEMBLE,
        "",
        steps[0].inputs,
        steps[-1].outputs,
        MAX_BATCH_SIZE,
        parameters={
            "pipeline": json.dumps(json.loads(spec.to_json()), separators=(",", ":")),
            "model_sha256": spec.model_sha256,
            "version": metadata.version("bodypose-triton"),
        },
        steps=steps,
    )


def render_config(model: ModelSpec) -> str:
    """The text of one model's config.pbtxt: same spec, same text."""
    config = triton.ModelConfig(
        name=model.name,
        max_batch_size=model.max_batch_size,
        input=[_tensor(triton.ModelInput, tensor) for tensor in model.inputs],
        output=[_tensor(triton.ModelOutput, tensor) for tensor in model.outputs],
    )
    for key, value in model.parameters.items():
        config.parameters[key].string_value = value
    if model.steps:
        config.platform = "ensemble"
        config.ensemble_scheduling.step.extend(map(_ensemble_step, model.steps))
    else:
        config.backend = model.backend
        _schedule(config, model)
    return f"# Written by `tools build-repo`.\n{text_format.MessageToString(config)}"


def read_config(path: Path) -> Any:
    """A config.pbtxt as protobuf.

    Raises:
        text_format.ParseError: with the line and what Triton would not understand.
    """
    return text_format.Parse(path.read_text(), triton.ModelConfig())


def data_type_name(data_type: int) -> str:
    """KServe's name ("UINT8", "BYTES") of a config's data type."""
    name = str(triton.DataType.Name(data_type)).removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def _step(
    name: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    warmup_files: tuple[str, ...],
    parameters: dict[str, str] | None = None,
) -> ModelSpec:
    return ModelSpec(
        name,
        "python",
        inputs,
        outputs,
        MAX_BATCH_SIZE,
        max_queue_size=MAX_QUEUE_SIZE,
        warmup_files=warmup_files,
        parameters=parameters or {},
    )


def _schedule(config: Any, model: ModelSpec) -> None:
    """Instances, dynamic batching and warm-up: an ensemble may have none of them."""
    config.instance_group.add(count=model.instances, kind=triton.ModelInstanceGroup.KIND_CPU)
    config.dynamic_batching.max_queue_delay_microseconds = model.max_queue_delay_us
    config.dynamic_batching.default_queue_policy.max_queue_size = model.max_queue_size
    for batch_size in sorted({1, model.max_batch_size}):
        warmup = config.model_warmup.add(name=f"batch of {batch_size}", batch_size=batch_size)
        for tensor in model.inputs:
            data = warmup.inputs[tensor.name]
            data.data_type, data.dims[:] = _data_type(tensor), tensor.dims
            if tensor.name in model.warmup_files:
                data.input_data_file = tensor.name
            else:
                data.zero_data = True


def _tensor(kind: Any, tensor: TensorSpec) -> Any:
    return kind(name=tensor.name, data_type=_data_type(tensor), dims=tensor.dims)


def _data_type(tensor: TensorSpec) -> int:
    name = "STRING" if tensor.dtype == "BYTES" else tensor.dtype
    return int(triton.DataType.Value(f"TYPE_{name}"))


def _ensemble_step(model: ModelSpec) -> Any:
    return triton.ModelEnsembling.Step(
        model_name=model.name,
        model_version=-1,
        input_map={tensor.name: tensor.name for tensor in model.inputs},
        output_map={tensor.name: tensor.name for tensor in model.outputs},
    )
