"""The project's `.keras` files: weights stored as float16, and a record with the pipeline."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from bodypose_tools.files.artifacts import Artifact, record_path
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.files.json_records import read_record, write_record
from pose_runtime.errors import PoseError, SpecError, first_line
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import GroupingSettings, PipelineSpec

from . import resizing  # noqa: F401  files hold its layers

_WEIGHTS = "model.weights.h5"
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class ModelFileError(PoseError):
    """A `.keras` file that is not one of our networks."""


def check_keras_name(path: Path) -> None:
    """Check the name of an output before long work.

    Raises:
        ModelFileError: Keras would not write a file of this name.
    """
    if path.suffix != ".keras":
        raise ModelFileError(f"{path}: expected a name that ends in .keras; choose another -o")


def save_network(
    network: keras.Model,
    path: Path,
    stage: str,
    pipeline: PipelineSpec,
    *parents: Artifact,
    settings: Mapping[str, Any],
) -> Artifact:
    """Write a network as a `.keras` file with float16 weights, and its record.

    Half the size of Keras' own file; Keras loads it into float32 variables as usual.
    """
    with atomic_path(path) as temporary:
        network.save(temporary)
        temporary.write_bytes(_with_float16_weights(temporary.read_bytes()))
    described = {
        **settings,  # of a parent's pipeline, maybe
        "skeleton": pipeline.skeleton.to_json(),
        "network_hw": pipeline.network_hw,
    }
    if pipeline.grouping != GroupingSettings():
        described["grouping"] = asdict(pipeline.grouping)
    return Artifact.record(path, stage, *parents, settings=described)


def load_network(path: Path) -> tuple[keras.Model, PipelineSpec, Artifact]:
    """A network, its pipeline, and the file as an `Artifact`.

    Skeleton and input size are the record's, and so are thresholds that `tools tune-grouping`
    wrote into it; else they are the defaults.

    Raises:
        ModelFileError: not a `.keras` file, or one whose record does not describe a pipeline.
        StaleArtifactError: the file changed after its record was written.
    """
    artifact = Artifact.open(path)
    if not {"skeleton", "network_hw"} <= set(artifact.settings):
        raise ModelFileError(
            f"{path}: expected a record {path.name}.json with skeleton and network_hw, got none;"
            " take the file that `tools train` wrote together with its record"
        )
    try:
        height, width = artifact.settings["network_hw"]
        pipeline = PipelineSpec(
            skeleton=Skeleton.from_json(artifact.settings["skeleton"]),
            network_hw=(height, width),
            grouping=GroupingSettings(**artifact.settings.get("grouping", {})),
        )
    except (ValueError, TypeError, SpecError) as error:
        raise ModelFileError(f"{path}: its record: {str(error)[:200]}") from error
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a config may make any layer of Keras fail in any way
        raise ModelFileError(f"{path}: expected a .keras model, got {first_line(error)}") from error
    return network, pipeline, artifact


def keep_grouping(path: Path, grouping: GroupingSettings) -> None:
    """Write thresholds into a network's record, from where export takes them to the server."""
    record = read_record(record_path(path), {"settings": dict})
    record["settings"]["grouping"] = asdict(grouping)
    write_record(record_path(path), record)


def _with_float16_weights(keras_file: bytes) -> bytes:
    """The same `.keras` archive, its float32 weights as shuffled, deflated float16; fixed dates."""
    rewritten = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(keras_file)) as source,
        zipfile.ZipFile(rewritten, "w") as target,
    ):
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == _WEIGHTS:
                content = _float16_h5(content)
            elif name == "metadata.json":
                content = b'{"keras_version": "%s"}' % keras.__version__.encode()
            entry = zipfile.ZipInfo(name, _ZIP_EPOCH)
            target.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    return rewritten.getvalue()


def _float16_h5(content: bytes) -> bytes:
    rewritten = io.BytesIO()
    with h5py.File(io.BytesIO(content), "r") as source, h5py.File(rewritten, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                made = target.require_group(name)
            else:
                values = item[()]
                if values.dtype == np.float32:
                    values = values.astype(np.float16)
                packed = {"shuffle": True, "chunks": True} if values.ndim else {}
                made = target.create_dataset(name, data=values, track_times=False, **packed)
            for key, value in item.attrs.items():
                made.attrs[key] = value

        source.visititems(copy)
    return rewritten.getvalue()
