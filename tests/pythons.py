"""The Pythons that the wheel is tested on: the oldest it accepts, the newest it names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OLDEST = re.fullmatch(r">=(3\.\d+)", PROJECT["requires-python"])[1]
NEWEST = max(
    (named[1] for c in PROJECT["classifiers"] if (named := re.search(r":: (3\.\d+)$", c))),
    key=lambda version: int(version.partition(".")[2]),
)


def python_of(version: str) -> str | None:
    """The interpreter of a version, such as 3.13: this one, on the PATH, or of pyenv."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    built = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for found in (shutil.which(f"python{version}"), *map(str, reversed(built))):
        # pyenv's shims are on the PATH for versions that are not switched on, too
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            return found
    return None
