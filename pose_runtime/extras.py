"""Packages that only some commands need: which extra brings them, and the line that installs it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from .errors import PoseError

_DISTRIBUTION: Final = "bodypose-triton"
_IS_CHECKOUT: Final = (Path(__file__).parents[1] / "pyproject.toml").is_file()


class MissingPackage(PoseError, ImportError):
    """A package that the base install leaves out; the message has the line that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"expected the package {package}, got none; run {install_line(extra)}")


def install_line(*extras: str, checkout: bool = _IS_CHECKOUT) -> str:
    """What to type for `extras`: in a checkout its folder, elsewhere the distribution's name."""
    names = ",".join(extras)
    if checkout:
        return f"`pip install -e '.[{names}]' -c constraints.txt`"
    return f'`pip install "{_DISTRIBUTION}[{names}]"`'


def require(extra: str, *packages: str) -> None:
    """Refuse before the work starts what would fail in the midst of it.

    Args:
        extra: the one that brings `packages`.
        packages: by the names under which they are imported; found without importing them.

    Raises:
        MissingPackage: one of them is not installed.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(package, extra)


def explained(error: ModuleNotFoundError, extra_of: Mapping[str, str]) -> Exception:
    """`MissingPackage` where an extra brings what was imported in vain, else `error` itself.

    Args:
        error: from an import, at any depth.
        extra_of: package by the name under which it is imported -> extra.
    """
    package = (error.name or "").partition(".")[0]
    return MissingPackage(package, extra_of[package]) if package in extra_of else error
