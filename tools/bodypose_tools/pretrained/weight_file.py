"""The `.npz` of pretrained weights: by layer and variable, written, read, and put into a model."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.files.arrays import array_of
from pose_runtime.errors import PoseError

if TYPE_CHECKING:
    import keras

_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_ZIP_UNIX: Final = 3

Arrays = Mapping[str, NDArray[Any]]  # by "<layer>/<variable>"


class BackboneError(PoseError):
    """Pretrained weights are not what the importer or the model expects."""


def tensor_of(tensors: Arrays, name: str, shape: tuple[int, ...], advice: str) -> NDArray[Any]:
    """A tensor of a source by its name there.

    Raises:
        BackboneError: there is none, or it has another shape; the message ends in `advice`.
    """
    got = tensors[name].shape if name in tensors else "no such tensor"
    if got != shape:
        raise BackboneError(f"{name}: expected {shape}, got {got}; {advice}")
    return tensors[name]


def load_backbone(model: keras.Model, weights: Path) -> list[str]:
    """Assign the arrays of `tools import-backbone` to the layers of the same names.

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


# What a damaged archive raises: one of another version, with a password, or that ends early.
ZIP_ERRORS: Final = (
    *(OSError, ValueError, EOFError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
_MAX_BYTES = 2**30  # VGG19's weights have 80 MB


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
    """The arrays of a `.npz` of `tools import-backbone`, by "<layer>/<variable>".

    Raises:
        BackboneError: the file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > _MAX_BYTES:
                raise ValueError(f"{size} bytes of arrays")
            return {
                name.removesuffix(".npy"): array_of(archive.read(name))
                for name in archive.namelist()
            }
    except FileNotFoundError:
        got = "no such file"
    except ZIP_ERRORS as error:
        got = str(error)
    raise BackboneError(
        f"{path}: expected the .npz of `tools import-backbone`, got {got}; import it again"
    )
