"""The files of calibration: folders of images, pixels in HDF5, scales in TensorRT's text format."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from bodypose_tools.data.photos import IMAGE_SUFFIXES, image_pixels
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from pose_runtime.errors import ImageError

from .calibration import (
    CalibrationError,
    Pixels,
)
from .settings import Method

_DATASET = "pixels"


def images_of(folder: Path, count: int, network_hw: tuple[int, int]) -> Iterator[Pixels]:
    """The first `count` images of a folder by name, preprocessed as in the server: (H, W, 3) uint8.

    Raises:
        CalibrationError: there are fewer images, or one cannot be decoded.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) < count:
        raise CalibrationError(
            f"{folder}: expected batches x batch_size = {count} images, got {len(paths)}; lower"
            f" --batches or --batch-size, or run `tools sample-calibration-images -n {count}`"
        )
    for path in paths[:count]:
        try:
            yield image_pixels(path, network_hw)
        except ImageError as error:
            raise CalibrationError(f"{path}: {error}") from error


def write_data_file(path: Path, images: Iterable[Pixels], network_hw: tuple[int, int]) -> None:
    """Write calibration pixels as HDF5: data set `pixels` (N, H, W, 3) uint8, image by image."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        stored = file.create_dataset(
            _DATASET,
            shape=(0, *network_hw, 3),
            maxshape=(None, *network_hw, 3),
            chunks=(1, *network_hw, 3),
            dtype=np.uint8,
            compression="gzip",
            compression_opts=1,
            track_times=False,
        )
        for row, image in enumerate(images):
            stored.resize(row + 1, axis=0)
            stored[row] = image


def images_in_data_file(path: Path, count: int, network_hw: tuple[int, int]) -> Iterator[Pixels]:
    """The first `count` images of a `cal_data_file`, each (H, W, 3) uint8.

    Raises:
        CalibrationError: it is not such a file, has another input size, or fewer images.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CalibrationError(f"{path}: expected an HDF5 cal_data_file, got {error}") from error
    with file:
        stored = file.get(_DATASET)
        shape = stored.shape if isinstance(stored, h5py.Dataset) else None
        if shape is None or stored.dtype != np.uint8 or shape[1:] != (*network_hw, 3):
            height, width = network_hw
            raise CalibrationError(
                f"{path}: expected pixels (N, {height}, {width}, 3), got {shape}; delete it, and"
                " give --cal-image-dir to make it again"
            )
        if shape[0] < count:
            raise CalibrationError(
                f"{path}: expected batches x batch_size = {count} images, got {shape[0]}; delete"
                " it and give --cal-image-dir to make it again, or lower --batches"
            )
        for row in range(count):
            try:
                yield stored[row]
            except OSError as error:
                raise CalibrationError(
                    f"{path}: expected whole pixels, got damaged ones in image {row}; delete it,"
                    " and give --cal-image-dir to make it again"
                ) from error


# `trtexec --calib` reads a cache with this header and ignores others.
_HEADER = "TRT-101600-EntropyCalibration2"


def write_cache(
    path: Path,
    scales: dict[str, float],
    method: Method,
    *parents: Artifact,
    images: int,
    network_hw: tuple[int, int],
    graph: str,
) -> Artifact:
    """Write scales as TensorRT <= 10 reads them, and a record that names the graph they belong to.

    A line is `tensor: hex`, the hex digits of a big-endian float32.

    Args:
        path: file to write.
        scales: by tensor.
        method: of calibration.
        *parents: the files that were calibrated.
        images: number of calibration images.
        network_hw: their size.
        graph: sha256 of the calibrated graph, which is the parent's after equalisation.
    """
    lines = [_HEADER, *(f"{n}: {struct.pack('>f', s).hex()}" for n, s in scales.items())]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    settings = {"method": str(method), "images": images, "network_hw": list(network_hw)}
    return Artifact.record(path, "export", *parents, settings={**settings, "graph": graph})


def read_cache(
    path: Path, names: Sequence[str], model: Artifact, network_hw: tuple[int, int], graph: str
) -> dict[str, float]:
    """The scales of the tensors `names`, from a file of `write_cache` or of TensorRT.

    Raises:
        CalibrationError: it is not such a file, lacks a tensor, or was made for another model.
        StaleArtifactError: the file changed after `tools export` wrote it.
    """
    artifact = Artifact.open(path)
    again = "delete it to calibrate again"
    if artifact.parents and model.sha256 not in artifact.parents:
        raise CalibrationError(
            f"{path}: expected scales of {model.path.name}, got those of another model; {again}"
        )
    made_for = artifact.settings.get("network_hw", list(network_hw))
    if made_for != list(network_hw):
        raise CalibrationError(f"{path}: expected input size {network_hw}, got {made_for}; {again}")
    if artifact.parents and artifact.settings.get("graph") != graph:
        raise CalibrationError(
            f"{path}: expected scales of the equalised graph {graph[:12]}, got those of"
            f" {str(artifact.settings.get('graph'))[:12]} (other images, or not with the same"
            f" --unsigned-activations?); {again}"
        )
    header, *lines = path.read_bytes().decode(errors="replace").splitlines() or [""]
    if not header.startswith("TRT-"):
        raise CalibrationError(
            f"{path}: expected a TensorRT calibration cache, got {header[:40]!r}"
        )
    scales = {}
    for number, line in enumerate(filter(None, lines), start=2):
        name, _, digits = line.rpartition(": ")
        try:
            (scales[name],) = struct.unpack(">f", bytes.fromhex(digits))
        except (ValueError, struct.error) as error:
            raise CalibrationError(
                f"{path}:{number}: expected `tensor: hex`, got {line!r}"
            ) from error
    if missing := [name for name in names if name not in scales]:
        raise CalibrationError(
            f"{path}: expected a scale of {missing[0]} (and {len(missing) - 1} more), got none;"
            f" {again}"
        )
    return {name: scales[name] for name in names}
