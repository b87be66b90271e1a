"""OpenVINO models: they come and go, Ctrl-C arrives, no thread has one core, nothing is sent."""

import os
import subprocess
import sys

import numpy as np
import pytest

from bodypose_tools.graphs.quantised import has_activation_scales_by_channel
from bodypose_tools.results import machine
from bodypose_tools.runtimes.cpu import int8_warning
from pose_runtime.extras import install_line
from tests.serving import SPEC
from tests.tiny_network import write_tiny_onnx
from tests.unit.tools.tiny_graphs import Tiny, run

SIGNAL_AFTER_TWO_MODELS = """
import faulthandler, gc, signal, sys
from pathlib import Path
from bodypose_tools.runtimes.cpu import openvino_model

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
    pytest.importorskip("openvino", reason=f"needs openvino: {install_line('embedded')}")
    tiny = Tiny()
    model = tmp_path / "tiny.onnx"
    model.write_bytes(tiny.model(tiny.stem()).SerializeToString())

    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_AFTER_TWO_MODELS, model], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout) == (0, "arrived\n"), done.stderr


OPENS_A_NETWORK = """
import os, sys
from pathlib import Path

seen = ("os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo")

def refuse(event, about):
    if event in seen:
        os.write(1, f"{event}\\n".encode())
        raise OSError(event)

sys.addaudithook(refuse)

import numpy as np
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.runtimes.cpu import openvino_model
from pose_runtime.openvino_network import openvino_network

which, model = sys.argv[1], Path(sys.argv[2])
spec = spec_in_onnx(model)
if which == "server":
    openvino_network(model, spec, "f32", 1, 1)(np.zeros((1, *spec.pixels.dims), np.uint8))
elif which == "tools":
    openvino_model(model, "f32", 1)
else:
    del sys.modules["openvino_telemetry"]
    openvino_model(model, "f32", 1)
"""


@pytest.mark.parametrize("which", ["server", "tools", "left alone"])
def test_openvino_sends_no_usage_statistics(which, tmp_path):
    pytest.importorskip("openvino", reason=f"needs openvino: {install_line('embedded')}")
    model = write_tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    # Of a user who was never asked, and outside CI, where it sends nothing.
    asked = ("CI", "TF_BUILD", "JENKINS_URL")
    user = {name: value for name, value in os.environ.items() if name not in asked}

    done = subprocess.run(
        [sys.executable, "-c", OPENS_A_NETWORK, which, model],
        capture_output=True,
        text=True,
        env={**user, "HOME": str(tmp_path)},
    )

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == ({"os.fork"} if which == "left alone" else set())


CORES_OF_EACH_THREAD = """
import os, re, sys
from pathlib import Path
import numpy as np
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.runtimes.cpu import openvino_model
from pose_runtime.openvino_network import openvino_network

which, model, threads = sys.argv[1], Path(sys.argv[2]), len(os.sched_getaffinity(0))
spec = spec_in_onnx(model)
pixels = np.zeros((1, *spec.pixels.dims), np.uint8)
if which == "server":
    run = openvino_network(model, spec, "f32", threads, 1)
    run(pixels)
else:
    request = openvino_model(model, "f32", threads, [pixels.shape]).create_infer_request()
    request.infer([pixels])
for thread in Path("/proc/self/task").iterdir():
    print(re.search(r"Cpus_allowed_list:\\s*(.*)", (thread / "status").read_text())[1])
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: nothing to share")
@pytest.mark.parametrize("which", ["server", "tools"])
def test_threads_may_run_on_every_core_so_that_processes_share_them(which, tmp_path):
    pytest.importorskip("openvino", reason=f"needs openvino: {install_line('embedded')}")
    model = write_tiny_onnx(tmp_path / "tiny.onnx", SPEC)

    done = subprocess.run(
        [sys.executable, "-c", CORES_OF_EACH_THREAD, which, model], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert len(set(done.stdout.split())) == 1, done.stdout


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        ("fma avx2 sha_ni", True),
        ("avx2 avx512f avx512_vnni", False),
        ("avx2 avx_vnni", False),
        ("avx2 avx512f amx_tile amx_int8", False),
        ("asimd asimddp", False),  # not an x86: unknown, so nothing is said
    ],
)
def test_int8_is_warned_of_where_sums_of_16_bits_overflow(flags, warned, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\n")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    warning = int8_warning()
    assert (warning is not None) == warned
    assert warning is None or "without VNNI" in warning


def test_a_machine_that_does_not_say_what_it_has_is_not_warned(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "nothing")
    assert int8_warning() is None


def test_activations_with_a_scale_for_each_channel_run():
    tiny = Tiny()
    stem = tiny.stem()
    scale = tiny.constant("scale", np.linspace(0.01, 0.1, 16, dtype=np.float32))
    zero = tiny.constant("zero", np.zeros(16, np.uint8))
    made = tiny.op("QuantizeLinear", "to_levels", stem, scale, zero, axis=1)
    made = tiny.op("DequantizeLinear", "back", made, scale, zero, axis=1)
    kernel = tiny.constant("kernel", np.ones((16, 1, 3, 3), np.int8))
    ones = tiny.constant("ones", np.full(16, 0.5, np.float32))
    nothing = tiny.constant("nothing", np.zeros(16, np.int8))
    weights = tiny.op("DequantizeLinear", "weights", kernel, ones, nothing, axis=0)
    layer = tiny.op("Conv", "depthwise", made, weights, group=16, pads=[1] * 4)
    tiny.op("QuantizeLinear", "ends", layer, scale, zero, axis=1)
    tiny.op("DequantizeLinear", "end", "ends_out", scale, zero, axis=1)
    model = tiny.model("end_out")
    assert has_activation_scales_by_channel(model)
    assert run(model)[0].shape == (1, 16, 8, 8)
