"""The image pyramid: heatmaps averaged over the image and a copy of another size.

MoveNet's heads detect people of some sizes best. A larger copy shows them more of the small people,
a smaller copy more of the large ones, with the same weights.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from keras import layers

from bodypose_tools.files.artifacts import Artifact
from pose_runtime.errors import PoseError
from pose_runtime.spec import PipelineSpec

from .fields import Fields
from .keras_files import check_keras_name, load_network, save_network
from .network import check_input_size
from .resizing import InCellsOf, LargerCopy

_HEAD = "heat_0_logits"  # heatmaps before any stage
_COPY = "larger_copy"  # whatever its size: exported nodes are named by it
_BOTH = "heat_both_logits"


class PyramidError(PoseError):
    """A network to which no pyramid can be added, or from which none can be taken."""


def add_pyramid(
    model: Path,
    out: Path,
    scale: float,
    share: float = 0.5,
    network_hw: tuple[int, int] | None = None,
) -> Artifact:
    """Average a network's heatmaps over its image and a copy `scale` times as large.

    Backbone and head run twice with one set of weights; the rest uses the image alone. The
    first heatmaps become a mean of both, as logits, and what the stages change in them is added
    as before. Part affinity fields, centres and offsets stay as they are.

    Args:
        model: a `bodypose-s` of ours.
        out: the `.keras` file to write, and its record.
        scale: of height and width; the copy's sides are rounded to multiples of 32.
        share: weight of the copy's heatmaps in the mean, 0 to 1.
        network_hw: input size that the pipeline gets; None: the one that it has. A larger image has
            more of the small people, a smaller copy the large ones.

    Raises:
        InputSizeError: the network has no such input.
        PyramidError: a network without such heads, or one that has a pyramid already.

    Source: weights shared between scales are those of Chen et al. 2016 (arXiv:1511.03339), whose
    mean of scores this is; their attention to scale would have to be trained.
    """
    check_keras_name(out)
    network, pipeline, parent = load_network(model)
    names = {layer.name for layer in network.layers}
    if _HEAD not in names or _COPY in names:
        got = "one with it" if _COPY in names else network.name
        raise PyramidError(f"{model}: expected a bodypose-s without a pyramid, got {got}")
    heatmaps = Fields.of(network.outputs).heatmaps
    last = next(layer for layer in network.layers if layer.output is heatmaps[-1])
    logits, own = last.input, network.get_layer(_HEAD).output
    moved = InCellsOf(name="heat_larger")([_of_copy(network, scale), own])
    more = layers.Subtract(dtype="float32", name="heat_more")([moved, own])
    part = layers.Rescaling(share, dtype="float32", name="heat_half")(more)
    mean = layers.Add(dtype="float32", name=_BOTH)([logits, part])
    outputs = list(network.outputs)
    outputs[len(heatmaps) - 1] = layers.Activation("sigmoid", dtype="float32", name="heat_both")(
        mean
    )
    made = keras.Model(network.inputs, outputs, name=network.name)
    settings = {**parent.settings, "val": None, "image_pyramid": {"scale": scale, "share": share}}
    pipeline = _of_size(network, pipeline, network_hw)
    return save_network(made, out, "add-pyramid", pipeline, parent, settings=settings)


def remove_pyramid(model: Path, out: Path, network_hw: tuple[int, int] | None = None) -> Artifact:
    """A network without its pyramid, which is the one that `add_pyramid` was given.

    Backbone and head run once, for half the cost.

    Args:
        model: a `bodypose-s` of ours with a pyramid.
        out: the `.keras` file to write, and its record.
        network_hw: input size that the pipeline gets; None: the one that it has.

    Raises:
        InputSizeError: the network has no such input.
        PyramidError: a network that has no pyramid.
    """
    check_keras_name(out)
    network, pipeline, parent = load_network(model)
    if _BOTH not in {layer.name for layer in network.layers}:
        raise PyramidError(f"{model}: expected a bodypose-s with a pyramid, got {network.name}")
    logits = network.get_layer(_BOTH).input[0]
    outputs = list(network.outputs)
    last = len(Fields.of(outputs).heatmaps)
    outputs[last - 1] = layers.Activation("sigmoid", dtype="float32", name=f"heat_{last}")(logits)
    made = keras.Model(network.inputs, outputs, name=network.name)
    settings = {key: value for key, value in parent.settings.items() if key != "image_pyramid"}
    settings["val"] = None
    pipeline = _of_size(network, pipeline, network_hw)
    return save_network(made, out, "remove-pyramid", pipeline, parent, settings=settings)


def _of_size(
    network: keras.Model, pipeline: PipelineSpec, network_hw: tuple[int, int] | None
) -> PipelineSpec:
    if network_hw is None:
        return pipeline
    check_input_size(network, network_hw)
    return replace(pipeline, network_hw=network_hw)


def _of_copy(network: keras.Model, scale: float) -> Any:
    """The head's logits for a copy of the image: the same layers, called once more."""
    images = network.get_layer("normalize").output
    logits: dict[str, Any] = {}

    def call(layer: layers.Layer, *args: Any, **kwargs: Any) -> Any:
        logits[layer.name] = layer(*args, **kwargs)
        return logits[layer.name]

    keras.models.clone_model(
        keras.Model(images, network.get_layer(_HEAD).output),
        input_tensors=LargerCopy(scale, name=_COPY)(images),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    return logits[_HEAD]
