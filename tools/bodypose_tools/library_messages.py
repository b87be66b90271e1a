"""What libraries print about themselves: known lines are left out, and `--verbose` shows them."""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Final

# Lines that say nothing about a person's work. Every other line is shown.
_KNOWN: Final = re.compile(
    r"WARNING: All log messages before absl::InitializeLog\(\)"
    r"|oneDNN custom operations are on"
    r"|oneDNN supports DT_HALF only"  # of a CPU without AVX-512; the weights are float16
    r"|Unable to register cu(DNN|FFT|BLAS) factory"  # by XLA, and by TensorFlow again
    r"|computation placer already registered"
    r"|triggered tf\.function retracing"  # networks are called with several sizes
    r"|Set ray log level from environment variable"  # which `tools bulk` sets
    r"|Empty initializer \S+ was provided with non-empty data"  # TensorRT, of Resize's empty input
)
_TENSORFLOW_LEVEL: Final = "TF_CPP_MIN_LOG_LEVEL"  # 0: everything, 1: from warnings on
_SHOWN = False


def is_known(line: str) -> bool:
    """Whether a library's line says nothing, and is to be left out."""
    return not _SHOWN and bool(_KNOWN.search(line))


def show_all(asked: bool) -> None:
    """`--verbose`: whether no line is left out, from now on."""
    global _SHOWN
    _SHOWN = asked


def leave_out_known() -> None:
    """Leave known lines out in this process; called before TensorFlow is imported."""
    logging.getLogger("tensorflow").addFilter(lambda record: not is_known(record.getMessage()))
    if not any(isinstance(finder, _QuietImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuietImport())


@contextlib.contextmanager
def known_lines_left_out() -> Iterator[None]:
    """Inside, what C libraries write to stderr is kept back; then the unknown lines are written."""
    if _SHOWN or sys.stderr is None:  # None: a program without a stderr, as `2>&-` makes one
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            for line in kept:
                if not is_known(line.decode(errors="replace")):
                    os.write(2, line)


class _QuietImport(importlib.abc.MetaPathFinder):
    """TensorFlow writes to stderr while it is imported, before its log level counts."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        os.environ.setdefault(_TENSORFLOW_LEVEL, "0" if _SHOWN else "1")
        with known_lines_left_out():
            self._loader.exec_module(module)

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)  # `get_data` and the like, for TensorFlow's resources
