"""OpenVINO models in one process: they come and go, and Ctrl-C still arrives."""

import subprocess
import sys

import pytest

from .tiny_graphs import Tiny

SIGNAL_AFTER_TWO_MODELS = """
import faulthandler, gc, signal, sys
from pathlib import Path
from tools.cpu_runtimes import openvino_model

faulthandler.enable()  # it has a stack for signals, as pytest's does
signal.signal(signal.SIGINT, lambda number, frame: print("arrived"))
first, second = (openvino_model(Path(sys.argv[1])) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_arrives_after_models_have_gone_in_the_order_they_came(tmp_path):
    pytest.importorskip("openvino", reason="needs openvino: pip install -e '.[embedded]'")
    tiny = Tiny()
    model = tmp_path / "tiny.onnx"
    model.write_bytes(tiny.model(tiny.stem()).SerializeToString())

    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_AFTER_TWO_MODELS, model], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "arrived\n"), done.stderr
