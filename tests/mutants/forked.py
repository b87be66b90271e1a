"""pytest in forks of a process that has read the large libraries once, instead of every time."""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

_LARGE = ("cv2", "hypothesis", "keras", "numpy", "onnx", "onnxruntime", "tensorflow", "torch")
_LARGE += ("pydantic", "scipy.stats", "tritonclient.grpc")
_OURS = ("tests", "pose_runtime", "bodypose_")


def read_large_libraries() -> None:
    """Of the ones that this machine has; no threads of theirs run before they compute."""
    for name in _LARGE:
        with suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()  # collections in a fork would visit, and so copy, all of them


def run_pytest(
    checkout: Path, arguments: Sequence[str], limit_s: float | None
) -> tuple[int | None, str]:
    """Exit code (None: over the limit) and words of pytest on the code of a checkout.

    Without a limit it also leaves bytecode there, which later runs read.
    """
    sys.stdout.flush()
    with tempfile.TemporaryFile() as words:
        child = os.fork()
        if not child:
            sys.dont_write_bytecode = limit_s is not None
            _become_pytest(checkout, arguments, words.fileno())
        ended = os.pidfd_open(child)
        in_time = bool(select.select([ended], [], [], limit_s)[0])
        os.close(ended)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # with what its tests left running
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        words.seek(0)
        return (code if in_time else None), words.read().decode(errors="replace")


def _become_pytest(checkout: Path, arguments: Sequence[str], words: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.dup2(words, 1)
        os.dup2(words, 2)
        os.chdir(checkout)
        paths = [str(checkout / name) for name in ("", "tools", "client", "loadtest")]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        if sys.dont_write_bytecode:
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.path[:0] = paths
        for name in [name for name in sys.modules if name.startswith(_OURS)]:
            del sys.modules[name]
        importlib.invalidate_caches()
        code = pytest.main(list(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
