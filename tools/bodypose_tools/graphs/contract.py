"""What the server requires of an ONNX file: a pipeline description, its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pose_runtime.errors import PoseError, SpecError, first_line
from pose_runtime.spec import NUMPY_DTYPES, PipelineSpec, TensorSpec

PIPELINE_KEY = "pipeline"
_MAX_BYTES = 2**30  # forty times the largest file of this project


class OnnxError(PoseError):
    """A file is not an ONNX model that this pipeline can serve."""


def spec_in_onnx(path: Path) -> PipelineSpec:
    """The pipeline in the metadata of an ONNX file, whose inputs and outputs must agree with it.

    Raises:
        OnnxError: the file is not an ONNX model, describes no pipeline, or has other tensors.
    """
    model = _load(path)
    described = {entry.key: entry.value for entry in model.metadata_props}
    if PIPELINE_KEY not in described:
        raise OnnxError(
            f"{path}: expected the pipeline in the metadata entry `{PIPELINE_KEY}`, got"
            f" {sorted(described) or 'no metadata'}; run `tools export`"
        )
    try:
        spec = PipelineSpec.from_json(described[PIPELINE_KEY])
    except SpecError as error:
        raise OnnxError(f"{path}: {error}") from error
    _check_tensors(path, "input", model.graph.input, (spec.pixels,))
    _check_tensors(path, "output", model.graph.output, (spec.peaks, spec.limb_scores))
    return spec


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise OnnxError(f"{path}: expected an ONNX model, got no such file; run `tools export`")
    if path.stat().st_size > _MAX_BYTES:
        raise OnnxError(
            f"{path}: expected an ONNX model of at most {_MAX_BYTES} bytes, got"
            f" {path.stat().st_size}"
        )
    if path.suffix == ".keras":
        raise OnnxError(
            f"{path}: expected an ONNX model, got a Keras file; run `tools export -m {path} -o"
            f" {path.with_suffix('.onnx').name} --sdk-compatible-model`"
        )
    try:
        model = onnx.load(path, load_external_data=False)
        _refuse_other_files(path, model)
        onnx.checker.check_model(model, full_check=True)  # types and shapes, too
    except (
        *(DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError),
        *(OSError, ValueError, RecursionError, MemoryError, RuntimeError),
    ) as error:
        raise OnnxError(
            f"{path}: expected an ONNX model, got a damaged file ({first_line(error)}); run"
            " `tools export`"
        ) from error
    return model


def _refuse_other_files(path: Path, model: Any) -> None:
    """Refuse weights in another file: a path in a model may point to any file of the machine."""
    import onnx

    for tensor in tensors_in(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            location = next((e.value for e in tensor.external_data if e.key == "location"), "")
            raise OnnxError(
                f"{path}: expected all weights inside the file, got those of `{tensor.name}` in"
                f" the file {location!r}; run `tools export`"
            )


def tensors_in(message: Any) -> Iterator[Any]:
    """Every tensor of a model, whatever holds it: a graph, a node, a function, a sparse tensor."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            is_one = hasattr(value, "ListFields")
            for inner in [value] if is_one else value:
                yield from tensors_in(inner)


def _check_tensors(
    path: Path, kind: str, declared: Sequence[Any], expected: tuple[TensorSpec, ...]
) -> None:
    got = {value.name: value.type.tensor_type for value in declared}
    for tensor in expected:
        wanted = f"{kind} `{tensor.name}` {tensor.dtype} (batch, {_commas(tensor.dims)})"
        if tensor.name not in got:
            raise OnnxError(f"{path}: expected {wanted}, got {sorted(got)}; run `tools export`")
        dtype, sides = _dtype_and_sides(got[tensor.name])
        fits = len(sides) == 1 + len(tensor.dims) and all(
            side in (wanted_side, None)
            for side, wanted_side in zip(sides[1:], tensor.dims, strict=True)
        )
        if dtype != tensor.dtype or not fits or sides[0] is not None:
            shape = _commas("batch" if side is None else side for side in sides)
            raise OnnxError(f"{path}: expected {wanted}, got {dtype} ({shape}); run `tools export`")
    if strays := got.keys() - {tensor.name for tensor in expected}:
        raise OnnxError(f"{path}: expected no other {kind}s, got {sorted(strays)}")


def _dtype_and_sides(tensor_type: Any) -> tuple[str, list[int | None]]:
    """The dtype by its KServe name, and the sides of the shape; None where a side is dynamic."""
    from onnx import helper

    try:
        numpy_dtype = helper.tensor_dtype_to_np_dtype(tensor_type.elem_type)
    except (KeyError, ValueError):  # a number that is no type of ONNX
        return f"type {tensor_type.elem_type}", []
    dtypes = [name for name, dtype in NUMPY_DTYPES.items() if numpy_dtype == dtype]
    sides = [
        side.dim_value if side.HasField("dim_value") else None for side in tensor_type.shape.dim
    ]
    return dtypes[0] if dtypes else str(numpy_dtype), sides


def _commas(parts: Any) -> str:
    return ", ".join(map(str, parts))
