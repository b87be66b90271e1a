"""Files that are installed with the package: models, specs, sources of the model repository."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from bodypose_client.files.output_file import check_can_write
from pose_runtime.errors import PoseError

from .atomic_files import atomic_path
from .settings import ShippedModel

_PACKAGE: Final = Path(__file__).parents[1]
CHECKOUT: Final = _PACKAGE.parents[1]


class StarterError(PoseError):
    """A shipped file would replace one of the user's."""


def _folder(name: str) -> Path:
    """Inside the package in a wheel; at the top level of a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else CHECKOUT / name


MODEL_SOURCES: Final = _folder("model_repository")
SPECS: Final = _folder("specs")
DEPLOY: Final = _folder("deploy")
MODELS: Final = _PACKAGE / "models"


def float_graph(model: ShippedModel) -> Path:
    """The shipped ONNX file of a model in float32; its weights are stored as float16."""
    return MODELS / f"{model}.onnx"


def int8_graph(model: ShippedModel) -> Path:
    """The shipped ONNX file of a model in INT8, for CPUs."""
    return MODELS / f"{model}.int8.onnx"


SHIPPED_MODEL: Final = float_graph(ShippedModel.BODYPOSE_S)


def copy_starters(folder: Path, overwrite: bool = False) -> list[Path]:
    """Copy every spec to `folder`/specs, every Keras model and its record to `folder`/models.

    Args:
        folder: made if it is not there.
        overwrite: replace files that have the name of a shipped one and other content.

    Returns:
        The copies; a file that has the same content already counts as one.

    Raises:
        StarterError: a file with other content is there; nothing is written then.
        DiskError: the folder cannot be written.
    """
    check_can_write(folder, is_folder=True)
    copies = {
        folder / place / source.name: source
        for place, sources in (("specs", SPECS.glob("*.yaml")), ("models", MODELS.glob("*.keras*")))
        for source in sorted(sources)
    }
    missing = {
        path: source
        for path, source in copies.items()
        if not path.is_file() or path.read_bytes() != source.read_bytes()
    }
    if not overwrite and (taken := [path for path in missing if path.exists()]):
        raise StarterError(
            f"{taken[0]}: expected no file or the shipped one, got another; give another --output,"
            " or --overwrite"
        )
    for path, source in missing.items():
        with atomic_path(path) as temporary:
            shutil.copyfile(source, temporary)
    return list(copies)
