"""The contents of the nvidia-pytriton wheel: tritonserver, its Python backend, their libraries."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from pose_runtime.extras import MissingPackage, install_line

from .settings import ServerError

# Of every server, embedded or in a container.
STEPS_ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",  # the repository stays as it was built
    # The network has the threads; the other steps compute one image at a time on one.
    "OPENCV_FOR_THREADS_NUM": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Freed bodies of large requests return to the system. By default glibc keeps up to 64 MB of
    # them in each of many heaps (`man mallopt`, M_MMAP_THRESHOLD and M_ARENA_MAX).
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_ARENA_MAX": "4",
}
_PYTHONS = ("3.11", "3.12")  # the markers of the extra `embedded` in pyproject.toml


def find_wheel() -> Path:
    """The wheel's `tritonserver` folder, found without importing the package."""
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        if _python_version() not in _PYTHONS:
            raise ServerError(
                f"embedded server: expected Python {' or '.join(_PYTHONS)} (its wheel needs numpy"
                f" 1.26), got {_python_version()}; make an environment with one of them and run"
                f" {install_line('embedded')}"
            )
        raise MissingPackage("pytriton")
    folder = Path(package.origin).parent / "tritonserver"
    stubs = folder / "python_backend_stubs"
    if not (stubs / _python_version()).is_dir():
        known = ", ".join(sorted((path.name for path in stubs.iterdir()), key=_by_number))
        raise ServerError(
            f"embedded server: expected one of Python {known}, got {_python_version()};"
            " run it from an environment with one of them"
        )
    return folder


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _by_number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def copy_backend(wheel: Path, folder: Path) -> None:
    """Copy the Python backend into `folder`, with the stub of the running Python."""
    backend = folder / "python"
    shutil.copytree(
        wheel / "backends" / "python", backend, ignore=shutil.ignore_patterns("__pycache__")
    )
    for stub in (wheel / "python_backend_stubs" / _python_version()).iterdir():
        shutil.copy(stub, backend)


def server_environment(wheel: Path) -> dict[str, str]:
    """The environment in which tritonserver and its Python stubs find their libraries."""
    libraries = [wheel.parents[1] / "nvidia_pytriton.libs", *_python_libraries()]
    return {
        **os.environ,
        # The stub takes its packages from the first python3 on the path: this environment's.
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        **STEPS_ENVIRONMENT,
    }


def _python_libraries() -> list[Path]:
    """Folders in which the stub finds the shared library of this Python.

    Raises:
        ServerError: there is no such library.
    """
    library = f"libpython{_python_version()}.so.1.0"
    folders = [Path(str(sysconfig.get_config_var("LIBDIR"))), Path(sys.base_prefix) / "lib"]
    if found := [folder for folder in folders if (folder / library).is_file()]:
        return found
    try:
        ctypes.CDLL(library)
    except OSError as error:
        raise ServerError(
            f"embedded server: expected {library} of this Python, got none in"
            f" {', '.join(map(str, folders))}; run `apt install libpython{_python_version()}` or"
            " use a Python built with --enable-shared"
        ) from error
    return []
