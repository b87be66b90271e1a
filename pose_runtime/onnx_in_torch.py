"""An ONNX graph as a PyTorch function of fixed shapes, which PyTorch compiles for the GPU.

Operators of our exported graphs and of networks that `tools adopt` takes. Everything that depends
on shapes alone is computed once, in numpy; what remains is traced by `torch.compile` as one graph.
The convolutional part may run in float16, the decoding layers stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError

Array = NDArray[Any]
Values = Sequence[Any]  # of a node's inputs: tensors, or plain numbers where `_READ_AS_NUMBERS`
Operation = Callable[[Values, Mapping[str, Any]], Any]


def torch_function(model: Path, batch: int, device: str, half: bool) -> Callable[[Any], Any]:
    """The graph of an ONNX file as a function: pixels (batch, H, W, 3) uint8 -> its outputs.

    Args:
        model: ONNX file from `tools export`, float32 or float16; its weights may be stored as
            either.
        batch: images of a call, fixed.
        device: of the weights, "cuda:0" or "cpu".
        half: convolutions and what stands between them in float16.

    Raises:
        ContractError: the graph has an operator that this module does not know, as an INT8 graph
            has.
    """
    import onnx
    import torch

    graph = onnx.load(model, load_external_data=False).graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    source, results = graph.input[0], [output.name for output in graph.output]
    dims = [dim.dim_value for dim in source.type.tensor_type.shape.dim[1:]]
    # Run once without data, on shapes alone: what depends on them only is a constant.
    shaped = {source.name: torch.empty((batch, *dims), dtype=torch.uint8, device="meta")}
    steps = []
    for node in graph.node:
        if _folded(node, constants, shaped):
            continue
        step = _step(node, constants, device, half)
        shaped.update(_outputs(_step(node, constants, "meta", half), shaped))
        steps.append(step)

    def run(pixels: Any) -> Any:
        values = {source.name: pixels}
        for step in steps:
            values.update(_outputs(step, values))
        return tuple(values[name].float() for name in results)

    return run


Step = tuple[Callable[[Values], Any], list[str], list[str]]  # function, inputs' and outputs' names


def _outputs(step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
    function, inputs, outputs = step
    made = function([values[name] for name in inputs])
    return dict(zip(outputs, made if isinstance(made, tuple) else (made,), strict=False))


def _folded(node: Any, constants: dict[str, Array], shaped: Mapping[str, Any]) -> bool:
    """Whether a node's outputs are constants; if so, they are added to `constants`."""
    if node.op_type == "Shape" and node.input[0] in shaped:
        constants[node.output[0]] = np.array(shaped[node.input[0]].shape, np.int64)
        return True
    if not all(name in constants for name in node.input if name):
        return False
    from onnx.reference import ReferenceEvaluator

    given = {name: constants[name] for name in node.input if name}
    made = ReferenceEvaluator(node).run(None, given)
    constants.update(zip(node.output, made, strict=True))
    return True


def _step(node: Any, constants: Mapping[str, Array], device: str, half: bool) -> Step:
    """A node as a function of those of its inputs that are not constants."""
    import onnx
    import torch

    if node.op_type not in _OPERATIONS:
        raise ContractError(
            "network", "a float graph of `tools export`", f"the operator {node.op_type}"
        )
    # `torch.compile` follows plain Python values, not protobuf's nor numpy's.
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if wrong := [key for key, fits in _ONLY.items() if not fits(attributes.get(key))]:
        raise ContractError(
            "network",
            f"a {node.op_type} that this runtime computes",
            f"one with {', '.join(f'{key} {attributes[key]}' for key in wrong)}",
        )
    if node.op_type == "Cast":
        attributes["to"] = _torch_type(attributes["to"], half)
    operation, on_host = _OPERATIONS[node.op_type], _READ_AS_NUMBERS.get(node.op_type, ())

    def constant(place: int, array: Array) -> Any:
        if place in on_host:
            return array.tolist()
        tensor = torch.from_numpy(np.array(array)).to(device)
        if node.op_type in _CONVOLUTIONS:
            tensor = tensor.to(torch.float16 if half else torch.float32)
            if tensor.ndim == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
        elif tensor.dtype in (torch.float16, torch.float64):
            tensor = tensor.float()
        return tensor

    fixed = {
        place: constant(place, constants[name])
        for place, name in enumerate(node.input)
        if name in constants
    }
    names, kind = list(node.input), str(node.op_type)
    running = [name for name in names if name and name not in constants]

    def run(given: Values) -> Any:
        rest = iter(given)
        values = [
            fixed[place] if place in fixed else next(rest) if name else None
            for place, name in enumerate(names)
        ]
        if kind not in _MAY_BE_HALF:
            values = [_as_float32(value) for value in values]
        return operation(values, attributes)

    return run, running, list(node.output)


def _as_float32(value: Any) -> Any:
    import torch

    is_half = isinstance(value, torch.Tensor) and value.dtype == torch.float16
    return value.float() if is_half else value


def _convolution(values: Values, attributes: Mapping[str, Any]) -> Any:
    import torch.nn.functional as torch_functions

    pixels, kernel, bias, *_ = *values, None
    pixels = pixels.to(kernel.dtype)
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padding: Any = (top, left)
    if (top, left) != (bottom, right):
        pixels = torch_functions.pad(pixels, (left, right, top, bottom))
        padding = 0
    return torch_functions.conv2d(
        pixels,
        kernel,
        bias,
        attributes.get("strides", (1, 1)),
        padding,
        attributes.get("dilations", (1, 1)),
        attributes.get("group", 1),
    )


def _transposed_convolution(values: Values, attributes: Mapping[str, Any]) -> Any:
    import torch.nn.functional as torch_functions

    pixels, kernel, bias, *_ = *values, None
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        raise ContractError("ConvTranspose", "equal pads", str(attributes["pads"]))
    return torch_functions.conv_transpose2d(
        pixels.to(kernel.dtype),
        kernel,
        bias,
        attributes.get("strides", (1, 1)),
        (top, left),
        groups=attributes.get("group", 1),
    )


def _resize(values: Values, attributes: Mapping[str, Any]) -> Any:
    import torch.nn.functional as torch_functions

    pixels, _, scales, sizes, *_ = *values, None, None
    if sizes:
        height, width = sizes[-2:]
    else:
        sides = zip(pixels.shape[-2:], scales[-2:], strict=True)
        height, width = (int(side * scale) for side, scale in sides)
    mode, corners = attributes.get("mode", b"nearest"), b"asymmetric"
    if mode == b"cubic" or (
        mode == b"linear" and attributes.get("coordinate_transformation_mode") == corners
    ):
        raise ContractError("network", "a Resize with half-pixel centres", str(attributes))
    if mode == b"nearest":
        return torch_functions.interpolate(pixels, (height, width), mode="nearest")
    return torch_functions.interpolate(
        pixels, (height, width), mode="bilinear", align_corners=False
    )


def _max_pool(values: Values, attributes: Mapping[str, Any]) -> Any:
    import torch.nn.functional as torch_functions

    pixels = values[0]
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padding: Any = (top, left)
    if (top, left) != (bottom, right):
        pixels = torch_functions.pad(pixels, (left, right, top, bottom), value=-math.inf)
        padding = 0
    return torch_functions.max_pool2d(
        pixels,
        attributes["kernel_shape"],
        attributes.get("strides", (1, 1)),
        padding,
        attributes.get("dilations", (1, 1)),
        bool(attributes.get("ceil_mode", 0)),
    )


def _average_pool(values: Values, attributes: Mapping[str, Any]) -> Any:
    import torch

    top, left, *ends = attributes.get("pads", (0, 0, 0, 0))
    if [top, left] != list(ends):
        raise ContractError("network", "an AveragePool padded alike on both sides", str(attributes))
    return torch.nn.functional.avg_pool2d(
        values[0],
        tuple(attributes["kernel_shape"]),
        tuple(attributes.get("strides", (1, 1))),
        (top, left),
        bool(attributes.get("ceil_mode", 0)),
        bool(attributes.get("count_include_pad", 0)),
    )


def _batch_norm(values: Values, attributes: Mapping[str, Any]) -> Any:
    import torch

    x, scale, shift, mean, variance = values
    epsilon = attributes.get("epsilon", 1e-5)
    return torch.nn.functional.batch_norm(x, mean, variance, scale, shift, eps=epsilon)


def _activation(name: str, **defaults: float) -> Operation:
    """An activation of `torch.nn.functional`, and its ONNX attributes in the order it takes."""

    def operation(values: Values, attributes: Mapping[str, Any]) -> Any:
        import torch

        given = (attributes.get(key, value) for key, value in defaults.items())
        return getattr(torch.nn.functional, name)(values[0], *given)

    return operation


def _hard_sigmoid(values: Values, attributes: Mapping[str, Any]) -> Any:
    return (attributes.get("alpha", 0.2) * values[0] + attributes.get("beta", 0.5)).clamp(0, 1)


def _clip(values: Values, attributes: Mapping[str, Any]) -> Any:
    low, high = (*values[1:], None, None)[:2]
    return values[0].clamp(low, high)


def _slice(values: Values, attributes: Mapping[str, Any]) -> Any:
    data, starts, ends, axes, steps = (*values, None, None)[:5]
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    picks = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        picks[axis] = slice(start, min(end, data.shape[axis]), step)
    return data[tuple(picks)]


def _gather(values: Values, attributes: Mapping[str, Any]) -> Any:
    data, indices = values
    axis = attributes.get("axis", 0) % data.ndim
    flat = data.index_select(axis, indices.reshape(-1).long())
    return flat.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


def _reshape(values: Values, attributes: Mapping[str, Any]) -> Any:
    data, shape = values
    return data.reshape([side or data.shape[i] for i, side in enumerate(shape)])


def _unsqueeze(values: Values, attributes: Mapping[str, Any]) -> Any:
    data, axes = values
    for axis in sorted(axis % (data.ndim + len(axes)) for axis in axes):
        data = data.unsqueeze(axis)
    return data


def _top_k(values: Values, attributes: Mapping[str, Any]) -> Any:
    (count,) = values[1]
    best, places = values[0].topk(count, attributes.get("axis", -1))
    return best, places


def _reduce(name: str) -> Operation:
    def reduced(values: Values, attributes: Mapping[str, Any]) -> Any:
        axes = values[1] if len(values) > 1 else attributes.get("axes")
        axes = tuple(range(values[0].ndim)) if axes is None else tuple(axes)
        return getattr(values[0], name)(dim=axes, keepdim=bool(attributes.get("keepdims", 1)))

    return reduced


def _of_tensors(name: str) -> Operation:
    """An operation that PyTorch has under a name of its own, on tensors alone."""

    def operation(values: Values, attributes: Mapping[str, Any]) -> Any:
        import torch

        return getattr(torch, name)(*values)

    return operation


def _cast(values: Values, attributes: Mapping[str, Any]) -> Any:
    return values[0].to(attributes["to"])


def _torch_type(data_type: int, half: bool) -> Any:
    """Where float16 is meant, `half` says so: a graph stored as float16 runs in float32, too."""
    import torch
    from onnx import helper

    name = helper.tensor_dtype_to_np_dtype(data_type).name
    kinds = {"float16": "float16" if half else "float32", "int32": "int64"}
    return getattr(torch, kinds.get(name, name))


def _concat(values: Values, attributes: Mapping[str, Any]) -> Any:
    import torch

    if len({value.dtype for value in values}) > 1:
        values = [_as_float32(value) for value in values]
    return torch.cat(list(values), attributes["axis"])


_OPERATIONS: dict[str, Operation] = {
    "Abs": _of_tensors("abs"),
    "Add": _of_tensors("add"),
    "And": _of_tensors("logical_and"),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Div": _of_tensors("div"),
    "Elu": _activation("elu", alpha=1.0),
    "Equal": _of_tensors("eq"),
    "Exp": _of_tensors("exp"),
    "Expand": lambda values, _: values[0].expand(values[1]),
    "Floor": _of_tensors("floor"),
    "Gather": _gather,
    "GlobalAveragePool": lambda values, _: values[0].mean((2, 3), keepdim=True),
    "Greater": _of_tensors("gt"),
    "GreaterOrEqual": _of_tensors("ge"),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation("hardswish"),
    "Identity": lambda values, _: values[0],
    "LeakyRelu": _activation("leaky_relu", alpha=0.01),
    "Less": _of_tensors("lt"),
    "LessOrEqual": _of_tensors("le"),
    "Log": _of_tensors("log"),
    "Max": _of_tensors("maximum"),
    "MaxPool": _max_pool,
    "Min": _of_tensors("minimum"),
    "Mul": _of_tensors("mul"),
    "Neg": _of_tensors("neg"),
    "Not": _of_tensors("logical_not"),
    "Or": _of_tensors("logical_or"),
    "PRelu": lambda values, _: values[0].clamp(min=0) + values[1] * values[0].clamp(max=0),
    "ReduceMax": _reduce("amax"),
    "ReduceMean": _reduce("mean"),
    "ReduceMin": _reduce("amin"),
    "ReduceSum": _reduce("sum"),
    "Relu": _of_tensors("relu"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _of_tensors("sigmoid"),
    "Slice": _slice,
    "Softplus": _activation("softplus"),
    "Sqrt": _of_tensors("sqrt"),
    "Squeeze": lambda values, _: values[0].squeeze(tuple(values[1])),
    "Sub": _of_tensors("sub"),
    "Tanh": _of_tensors("tanh"),
    "TopK": _top_k,
    "Transpose": lambda values, attributes: values[0].permute(attributes["perm"]),
    "Unsqueeze": _unsqueeze,
    "Where": _of_tensors("where"),
}
# What else these attributes may say is not computed here, and so refused; None: not given.
_ONLY: dict[str, Callable[[Any], bool]] = {
    "auto_pad": lambda value: value in (None, b"NOTSET", b"VALID"),
    "output_padding": lambda value: not any(value or ()),
    "output_shape": lambda value: value is None,
    "coordinate_transformation_mode": lambda value: (
        value in (None, b"half_pixel", b"pytorch_half_pixel", b"asymmetric")
    ),
}
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_MAY_BE_HALF = (
    *_CONVOLUTIONS,
    *("Add", "Cast", "Clip", "Concat", "MaxPool", "Relu", "Resize", "Transpose"),
)
# Inputs, by place, that say how and not what: axes, shapes, numbers.
_READ_AS_NUMBERS: dict[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "Expand": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceSum": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Squeeze": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
}
