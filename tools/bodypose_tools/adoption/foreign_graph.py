"""A graph of another project: what of its inputs and outputs can be read, and what must be asked.

Everything that a person states is in the convention; what it leaves open is read from shapes. Where
the shapes fit two ways, the error names the option that decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from bodypose_tools.graphs.constants import constants_as_initializers
from bodypose_tools.graphs.contract import tensors_in
from bodypose_tools.graphs.index import OPSET, opset_of
from bodypose_tools.runtimes.cpu import onnx_session
from pose_runtime.errors import PoseError, first_line
from pose_runtime.skeleton import Skeleton

from .settings import Background, Convention, Direction, FieldOrder, Layout

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_CHANNELS_AT = {Layout.NCHW: 1, Layout.NHWC: 3}
_SIDE = 8  # pixels that sides of the input are multiples of
OURS = "adopted/"  # begins names of what we add
_MAX_BYTES = 2**31  # of a graph and the weights beside it; VGG19 has 80 MB


class AdoptionError(PoseError):
    """A graph cannot be adopted, or not as it was asked for."""


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """The input that gets images: its name, ONNX type, order of axes and size."""

    name: str
    dtype: int
    layout: Layout
    network_hw: tuple[int, int]

    @property
    def is_pixels(self) -> bool:
        """Whether the graph takes 0..255 itself, so that nothing is scaled before it."""
        return self.dtype == TensorProto.UINT8


@dataclass(frozen=True, slots=True)
class FieldsOutput:
    """A tensor of fields: its name, ONNX type, order of axes, (C, h, w), and the channels used."""

    name: str
    dtype: int
    layout: Layout
    shape: tuple[int, int, int]
    channels: tuple[int, ...]
    signs: tuple[int, ...] = ()  # 1 or -1 of each used channel; empty: all 1


@dataclass(frozen=True, slots=True)
class ForeignNetwork:
    """A graph at opset `OPSET` or later whose batch has no fixed size, and its tensors."""

    model: onnx.ModelProto
    input: NetworkInput
    outputs: dict[str, FieldsOutput]  # by our names: heatmaps, affinity, centre, offsets


def open_network(path: Path, convention: Convention, skeleton: Skeleton) -> ForeignNetwork:
    """Read a graph as the convention describes it.

    Raises:
        AdoptionError: no ONNX graph, no such tensors, channels of another skeleton, or shapes that
            fit two ways; the message names the option.
    """
    if (convention.centre is None) != (convention.offsets is None):
        raise AdoptionError("expected --centre and --offsets together, got one of them")
    model = _load(path)
    name, dtype, sides = _image_input(model, convention)
    source = _network_input(name, dtype, sides, convention)
    _free_the_batch(model, source)
    shapes = _Shapes(path, model, source)
    heatmaps, affinity = _named_outputs(shapes, convention, skeleton)
    joint_count, field_count = skeleton.num_joints, 2 * skeleton.num_limbs
    joints, limbs = convention.joint_channels, convention.field_channels
    if heatmaps == affinity and (joints is None or limbs is None):
        if not convention.combined:
            raise AdoptionError(
                f"expected --joint-channels and --field-channels, because {heatmaps} with the shape"
                f" {_shown(shapes.known[heatmaps])} has heatmaps and fields"
            )
        behind = joint_count + (convention.background not in (None, Background.NONE))
        joints = joints or _joint_channels(behind, joint_count, convention)
        limbs = limbs or tuple(behind + c for c in _field_channels(field_count, convention))
    for option, channels, count in (
        ("--joint-channels", joints, joint_count),
        ("--field-channels", limbs, field_count),
    ):
        if channels is not None and not len(channels) == len({*channels}) == count:
            raise AdoptionError(
                f"{option}: expected {count} different numbers for the skeleton {skeleton.name},"
                f" got {len(channels)}, of which {len({*channels})} differ"
            )
    outputs = {
        "heatmaps": shapes.output(
            heatmaps,
            "--heatmaps",
            convention,
            None if joints else {joint_count, joint_count + 1},
            lambda count: joints or _joint_channels(count, joint_count, convention),
        ),
        "affinity": shapes.output(
            affinity,
            "--affinity",
            convention,
            None if limbs else {field_count},
            lambda count: limbs or _field_channels(field_count, convention),
            _signs(skeleton, convention),
        ),
    }
    for ours, theirs, count in (
        ("centre", convention.centre, 1),
        ("offsets", convention.offsets, 2 * joint_count),
    ):
        if theirs is not None:
            outputs[ours] = shapes.output(
                shapes.existing(theirs, f"--{ours}"),
                f"--{ours}",
                convention,
                {count},
                lambda found: tuple(range(found)),
            )
    _check_strides(outputs, source.network_hw)
    return ForeignNetwork(model, source, outputs)


def takes_pixels(path: Path, convention: Convention) -> bool:
    """Whether a graph's input is uint8, so that its scale is inside.

    Raises:
        AdoptionError: as `open_network`.
    """
    return _image_input(_load(path), convention)[1] == TensorProto.UINT8


# ---------------------------------------------------------------------------------------- the file


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise AdoptionError(f"{path}: expected an ONNX file, got nothing there")
    try:
        model = _read(path)
        onnx.checker.check_model(model)
    except (
        *(DecodeError, onnx.checker.ValidationError, OSError, ValueError, RuntimeError),
        MemoryError,
    ) as error:
        raise AdoptionError(f"{path}: expected an ONNX graph, got {first_line(error)}") from error
    if stray := next((n for n in _made_in(model.graph) if n.startswith(OURS)), None):
        raise AdoptionError(
            f"{path}: expected no tensor whose name begins with {OURS}, got {stray[:80]!a}; give"
            " the network itself, not one that was adopted"
        )
    if any(entry.HasField("g") for node in model.graph.node for entry in node.attribute):
        raise AdoptionError(
            f"{path}: expected a graph without If and Loop, got them; simplify it first with"
            " `onnxslim NET.onnx SIMPLE.onnx`"
        )
    if {"peaks", "limb_scores"} <= {output.name for output in model.graph.output}:
        raise AdoptionError(
            f"{path}: expected a network without decoding layers, got one that has them; run"
            f" `tools build-repo {path}`"
        )
    return _at_opset(path, constants_as_initializers(model))


def _read(path: Path) -> onnx.ModelProto:
    """The graph with the weights beside it; what would fill the memory is not read."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"a file of {path.stat().st_size} bytes, more than {_MAX_BYTES}")
    model = onnx.load(path, load_external_data=False)
    named = (
        entry.value
        for tensor in tensors_in(model)
        for entry in tensor.external_data
        if entry.key == "location"
    )
    beside = {path.parent / name for name in named}
    size = sum(file.stat().st_size for file in beside if file.is_file())
    if size > _MAX_BYTES:
        raise ValueError(f"weights of {size} bytes beside it, more than {_MAX_BYTES}")
    onnx.load_external_data_for_model(model, str(path.parent))
    return model


def _made_in(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of all that a graph computes or stores."""
    for node in graph.node:
        yield from node.output
    yield from (each.name for each in (*graph.input, *graph.initializer))


def _at_opset(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    opset = opset_of(model)
    if opset >= OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except (RuntimeError, ValueError) as error:
        raise AdoptionError(
            f"{path}: expected opset {OPSET} or newer, or one that ONNX can convert, got {opset}"
            f" ({first_line(error)}); export the network again with opset {OPSET}"
        ) from error


# --------------------------------------------------------------------------------------- the input


def _image_input(
    model: onnx.ModelProto, convention: Convention
) -> tuple[str, int, tuple[int | None, ...]]:
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in stored}
    if convention.input is not None and convention.input not in inputs:
        raise AdoptionError(f"--input: expected one of {', '.join(inputs)}, got {convention.input}")
    if len(inputs) != 1 and convention.input is None:
        raise AdoptionError(
            f"expected --input NAME, because the graph has {len(inputs)} inputs:"
            f" {', '.join(inputs) or 'none'}"
        )
    name = convention.input or next(iter(inputs))
    if strays := sorted(inputs.keys() - {name}):
        raise AdoptionError(
            f"expected a graph with one input, got {', '.join(strays)} besides {name}; export it"
            " with those fixed"
        )
    tensor = inputs[name].type.tensor_type
    if tensor.elem_type not in (*FLOATS, TensorProto.UINT8):
        raise AdoptionError(
            f"input {name}: expected float, float16 or uint8, got {_type_name(tensor.elem_type)}"
        )
    sides = tuple(side.dim_value if side.dim_value > 0 else None for side in tensor.shape.dim)
    if len(sides) != 4:
        raise AdoptionError(f"input {name}: expected four axes, got {len(sides)}")
    return name, tensor.elem_type, sides


def _type_name(elem_type: int) -> str:
    """As ONNX names it; of a number that it does not know, the number."""
    if elem_type in TensorProto.DataType.values():
        return str(TensorProto.DataType.Name(elem_type)).lower()
    return f"type {elem_type}"


def _network_input(
    name: str, dtype: int, sides: tuple[int | None, ...], convention: Convention
) -> NetworkInput:
    fits = [layout for layout, axis in _CHANNELS_AT.items() if sides[axis] in (3, None)]
    certain = [layout for layout in fits if sides[_CHANNELS_AT[layout]] == 3]
    fits = certain or fits
    if convention.input_layout is not None:
        if convention.input_layout not in fits:
            raise AdoptionError(
                f"--input-layout: expected {' or '.join(fits) or 'an input of 3 channels'} by the"
                f" shape {_shown(sides)} of {name}, got {convention.input_layout}"
            )
        fits = [convention.input_layout]
    if not fits:
        raise AdoptionError(
            f"input {name}: expected an image of 3 channels, got the shape {_shown(sides)}"
        )
    if len(fits) > 1:
        raise AdoptionError(
            f"expected --input-layout nchw or nhwc, because {name} has the shape {_shown(sides)}"
        )
    (layout,) = fits
    height, width = sides[2:] if layout is Layout.NCHW else sides[1:3]
    asked = convention.network_hw or (height, width)
    if None in asked:
        raise AdoptionError(
            f"expected --input-dims H,W,3, because {name} has the shape {_shown(sides)}"
        )
    for side, wanted in zip((height, width), asked, strict=True):
        if side not in (None, wanted):
            raise AdoptionError(
                f"--input-dims: expected {height},{width},3, the size of {name}, got"
                f" {asked[0]},{asked[1]},3; export the network again for another size"
            )
    if any(side is None or side % _SIDE for side in asked):
        raise AdoptionError(
            f"input {name}: expected sides that are multiples of {_SIDE}, got {asked[0]} x"
            f" {asked[1]}; export the network again for another size"
        )
    assert asked[0] is not None
    assert asked[1] is not None
    return NetworkInput(name, dtype, layout, (asked[0], asked[1]))


def _free_the_batch(model: onnx.ModelProto, source: NetworkInput) -> None:
    """Fix height and width of the input, leave the batch open, and forget other shapes."""
    (value,) = (each for each in model.graph.input if each.name == source.name)
    height, width = source.network_hw
    sides = (3, height, width) if source.layout is Layout.NCHW else (height, width, 3)
    value.CopyFrom(helper.make_tensor_value_info(source.name, source.dtype, ["batch", *sides]))
    del model.graph.value_info[:]
    stored = {tensor.name for tensor in model.graph.initializer}
    kept = [each for each in model.graph.input if each.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(kept)


# ------------------------------------------------------------------------------------- the outputs


class _Shapes:
    """The tensors of a graph with four axes, and their shapes for one image."""

    def __init__(self, path: Path, model: onnx.ModelProto, source: NetworkInput) -> None:
        self._path, self._model, self._source = path, model, source
        self.inner = [name for node in model.graph.node for name in node.output if name]
        self.outputs = [output.name for output in model.graph.output]
        order = {name: place for place, name in enumerate(self.inner)}
        self.outputs.sort(key=lambda name: order.get(name, -1))  # later stages last
        self.known: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, int] = {}
        self.measure(self.outputs)

    def measure(self, names: Sequence[str]) -> None:
        probed = onnx.ModelProto()
        probed.CopyFrom(self._model)
        del probed.graph.output[:]
        probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        side = self._source.network_hw
        shape = (1, 3, *side) if self._source.layout is Layout.NCHW else (1, *side, 3)
        dtype = helper.tensor_dtype_to_np_dtype(self._source.dtype)
        try:
            session = onnx_session(probed.SerializeToString())
            answers = session.run(list(names), {self._source.name: np.zeros(shape, dtype)})
        except Exception as error:  # ONNX Runtime's own errors have no common base
            raise AdoptionError(
                f"{self._path}: expected a graph that runs on an image of {side[0]} x {side[1]},"
                f" got {first_line(error)}"
            ) from error
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, np.ndarray):
                self.known[name] = answer.shape
                self.dtypes[name] = helper.np_dtype_to_tensor_dtype(answer.dtype)
            else:  # a sequence, or nothing
                self.known[name], self.dtypes[name] = (), TensorProto.UNDEFINED

    def existing(self, name: str, option: str) -> str:
        if name not in self.inner:
            raise AdoptionError(
                f"{option}: expected a tensor of the graph, whose outputs are"
                f" {', '.join(self.outputs)}; got {name}"
            )
        if name not in self.known:
            self.measure([name])
        return name

    def having(self, counts: set[int]) -> list[str]:
        """Outputs with one of these numbers of channels, later stages last."""
        fits = {
            name: [planes for layout in Layout if (planes := _planes(shape, layout))[0] in counts]
            for name in self.outputs
            if len(shape := self.known[name]) == 4
        }
        hw = self._source.network_hw
        sound = [name for name in fits if any(stride_of(p[1:], hw) for p in fits[name])]
        return sound or [name for name in fits if fits[name]]

    def output(
        self,
        name: str,
        option: str,
        convention: Convention,
        counts: set[int] | None,
        channels_of: Any,
        signs: tuple[int, ...] = (),
    ) -> FieldsOutput:
        """The tensor's order of axes and used channels; `counts` are numbers that may be theirs."""
        shape = self.known[name]
        if len(shape) != 4:
            raise AdoptionError(f"{option}: expected four axes, got {name} with {_shown(shape)}")
        if self.dtypes[name] not in FLOATS:
            raise AdoptionError(f"{option}: expected numbers in float, got {name} with others")
        fits = {
            layout: _planes(shape, layout)
            for layout, axis in _CHANNELS_AT.items()
            if counts is None or shape[axis] in counts
        }
        if convention.output_layout is not None:
            fits = {k: v for k, v in fits.items() if k is convention.output_layout}
        elif len(fits) > 1:
            hw = self._source.network_hw
            fits = {k: v for k, v in fits.items() if stride_of(v[1:], hw)} or fits
        if not fits:
            wanted = " or ".join(map(str, sorted(counts or ())))
            raise AdoptionError(
                f"{option}: expected {wanted} channels for the skeleton, got {name} with the shape"
                f" {_shown(shape)}; give --skeleton, or --joint-channels and --field-channels"
            )
        if len(fits) > 1:
            raise AdoptionError(
                f"expected --output-layout nchw or nhwc, because {name} has the shape"
                f" {_shown(shape)}"
            )
        ((layout, planes),) = fits.items()
        channels = tuple(channels_of(planes[0]))
        if (stray := next((c for c in channels if not 0 <= c < planes[0]), None)) is not None:
            raise AdoptionError(
                f"{option}: expected channels from 0 to {planes[0] - 1}, which {name} has, got"
                f" {stray}"
            )
        return FieldsOutput(name, self.dtypes[name], layout, planes, channels, signs)


def _named_outputs(shapes: _Shapes, convention: Convention, skeleton: Skeleton) -> tuple[str, str]:
    counts = {
        "heatmaps": {skeleton.num_joints, skeleton.num_joints + 1},
        "affinity": {2 * skeleton.num_limbs},
    }
    given = {"heatmaps": convention.heatmaps, "affinity": convention.affinity}
    found = {
        kind: shapes.existing(name, f"--{kind}") for kind, name in given.items() if name is not None
    }
    if not found and (one := _combined(shapes, convention, skeleton)):
        return one, one
    fitting = {kind: shapes.having(counts[kind]) for kind in counts}
    for kind, names in fitting.items():
        known = [name for name in names if name in convention.known_names]
        fitting[kind] = known or names
    for kind in fitting.keys() - found.keys():
        names = fitting[kind]
        # Stages have one tensor of each kind, and the last counts.
        if not names or (len(names) > 1 and len({len(each) for each in fitting.values()}) > 1):
            wanted = " or ".join(map(str, sorted(counts[kind])))
            raise AdoptionError(
                f"expected --{kind} NAME, because {len(names)} outputs have {wanted} channels;"
                f" outputs: {'; '.join(f'{n} {_shown(shapes.known[n])}' for n in shapes.outputs)}"
            )
        found[kind] = names[-1]
    return found["heatmaps"], found["affinity"]


def _combined(shapes: _Shapes, convention: Convention, skeleton: Skeleton) -> str | None:
    """The tensor with heatmaps and fields, by its name or else by its channels."""
    if convention.combined is None:
        return None
    if convention.combined in shapes.inner:
        return shapes.existing(convention.combined, "--heatmaps")
    both = shapes.having({skeleton.num_joints + 1 + 2 * skeleton.num_limbs})
    return both[-1] if both else None


def _joint_channels(count: int, joints: int, convention: Convention) -> tuple[int, ...]:
    if count == joints:
        if convention.background not in (None, Background.NONE):
            raise AdoptionError(
                f"--background: expected none, because there are {count} heatmaps for {joints}"
                f" joints, got {convention.background}"
            )
        return tuple(range(joints))
    match convention.background:
        case Background.FIRST:
            return tuple(range(1, joints + 1))
        case Background.LAST:
            return tuple(range(joints))
    raise AdoptionError(
        f"expected --background first or last, because there are {count} heatmaps for {joints}"
        " joints"
    )


def _field_channels(count: int, convention: Convention) -> tuple[int, ...]:
    if convention.field_order is FieldOrder.YX:
        return tuple(channel ^ 1 for channel in range(count))
    return tuple(range(count))


def _signs(skeleton: Skeleton, convention: Convention) -> tuple[int, ...]:
    """1 or -1 of x and y of each limb's field; empty when all are 1."""
    limbs = range(skeleton.num_limbs)
    if (stray := next((n for n in convention.backwards if n not in limbs), None)) is not None:
        raise AdoptionError(
            f"--backwards: expected limbs from 0 to {skeleton.num_limbs - 1}, got {stray}"
        )
    common = -1 if convention.direction is Direction.BACKWARDS else 1
    signs = [-common if limb in convention.backwards else common for limb in limbs]
    return () if set(signs) == {1} else tuple(sign for sign in signs for _ in range(2))


def _check_strides(outputs: dict[str, FieldsOutput], network_hw: tuple[int, int]) -> None:
    for kind, output in outputs.items():
        cells = output.shape[1:]
        if not stride_of(cells, network_hw):
            raise AdoptionError(
                f"--{kind}: expected a whole number of pixels a cell, the same both ways, got"
                f" {cells[0]} x {cells[1]} cells for {network_hw[0]} x {network_hw[1]} pixels;"
                " --output-layout or --input-dims may be wrong"
            )
    if {"centre", "offsets"} <= outputs.keys():
        grids = {outputs[kind].shape[1:] for kind in ("heatmaps", "centre", "offsets")}
        if len(grids) > 1:
            raise AdoptionError("--centre: expected the cells of the heatmaps, got others")


def stride_of(cells: Sequence[int], network_hw: tuple[int, int]) -> int:
    """Network pixels a cell; 0 where that is no whole number, or not the same both ways."""
    height, width = network_hw
    stride = height // cells[0]
    return stride if [stride * count for count in cells] == [height, width] else 0


def _planes(shape: Sequence[int], layout: Layout) -> tuple[int, int, int]:
    """(C, h, w) of a tensor with four axes."""
    _, first, second, third = shape
    return (first, second, third) if layout is Layout.NCHW else (third, first, second)


def _shown(shape: Sequence[Any]) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)
