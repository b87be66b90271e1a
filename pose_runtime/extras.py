"""Packages that only some commands need: which extra brings them, and the line that installs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from .errors import PoseError

# Package, by the name under which it is imported -> the smallest extra that brings it.
EXTRA_OF: Final[Mapping[str, str]] = {
    "cv2": "draw",
    "pycocotools": "evaluate",
    "av": "video",
    "pydantic": "tools",
    "yaml": "tools",
    "skimage": "demo",
    "openvino": "embedded",
    "pytriton": "embedded",
    "onnx": "embedded",
    "onnxruntime": "embedded",
    "pyarrow": "bulk",
    "ray": "bulk",
    "keras": "train",
    "h5py": "train",
    "tensorflow": "train",
    "matplotlib": "benchmark",
    "psutil": "benchmark",
    "tf2onnx": "export",
    "gevent": "loadtest",
    "geventhttpclient": "loadtest",
    "locust": "loadtest",
}
_DISTRIBUTION: Final = "bodypose-triton"
_IS_CHECKOUT: Final = (Path(__file__).parents[1] / "pyproject.toml").is_file()


class MissingPackage(PoseError, ImportError):
    """A package that the base install leaves out; the message has the line that installs it."""

    def __init__(self, package: str, extra: str | None = None) -> None:
        extra = extra or EXTRA_OF.get(package)
        line = install_line(extra) if extra else f"`pip install {package}`"
        super().__init__(f"expected the package {package}, got none; run {line}")


def install_line(*extras: str, checkout: bool = _IS_CHECKOUT) -> str:
    """What to type for `extras`: in a checkout its folder, elsewhere the distribution's name."""
    names = ",".join(extras)
    if checkout:
        return f"`pip install -e '.[{names}]' -c constraints.txt`"
    return f'`pip install "{_DISTRIBUTION}[{names}]"`'


def require(*packages: str) -> None:
    """Refuse before the work starts what would fail in the midst of it.

    Args:
        packages: by the names under which they are imported; found without importing them.

    Raises:
        MissingPackage: one of them is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(package)


def explained(
    error: ModuleNotFoundError, extra_of: Mapping[str, str] = MappingProxyType({})
) -> Exception:
    """`MissingPackage` where an extra brings what was imported in vain, else `error` itself.

    Args:
        error: from an import, at any depth.
        extra_of: goes before `EXTRA_OF`.
    """
    package = (error.name or "").partition(".")[0]
    extra = extra_of.get(package) or EXTRA_OF.get(package)
    return MissingPackage(package, extra) if extra else error
