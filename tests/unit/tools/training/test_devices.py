"""Two devices share a batch: two virtual ones, in a process of JAX's own."""

import csv
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import pytest

from bodypose_tools.training.devices import DeviceError, share_batches
from pose_runtime.extras import install_line
from tests.unit.tools.training.test_train import from_network, spec_for

RUN = """
import sys
from pathlib import Path
import keras
from bodypose_tools.training.spec import TrainSpec
from bodypose_tools.training.train import train

if __name__ == "__main__":
    spec = TrainSpec.model_validate_json(Path(sys.argv[1]).read_text())
    train(spec, Path(sys.argv[2]), resume=False, say=print)
    shared = keras.distribution.distribution()
    print("devices", 1 if shared is None else shared.device_mesh.shape[0])
"""


def jax_run(spec, folder: Path) -> str:
    """Train in another process, whose JAX sees two devices; what it said."""
    folder.mkdir()
    (folder / "spec.json").write_text(spec.model_dump_json())
    (folder / "run.py").write_text(RUN)
    xla = ("--xla_force_host_platform_device_count=2", "--xla_backend_optimization_level=0")
    flags = {"XLA_FLAGS": " ".join(xla), "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "run.py", "spec.json", "run"],
        cwd=folder,
        env={**os.environ, **flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(folder: Path) -> list[float]:
    lines = (folder / "run" / "log.csv").read_text().splitlines()
    return [float(row["loss"]) for row in csv.DictReader(lines)]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason=f"no JAX: {install_line('dev')}")
def test_two_devices_have_the_losses_of_one(drawn_coco, tiny_keras, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, devices in ((one, 1), (two, 2)):
        spec = spec_for(drawn_coco, 3, devices=devices, random_seed=1, **from_network(tiny_keras))
        said = jax_run(spec, folder)
        assert f"devices {devices}" in said
    assert len(losses(two)) == 3
    assert losses(two) == pytest.approx(losses(one), rel=1e-3)
    assert losses(two)[2] != pytest.approx(losses(two)[0], rel=1e-2)  # there was something to learn


def test_one_device_asks_nothing_of_the_backend():
    assert share_batches(1, batch_size=3) == 1
    assert keras.distribution.distribution() is None


def test_more_than_one_device_needs_jax():
    with pytest.raises(DeviceError, match=r"expected 1 with Keras' tensorflow .*KERAS_BACKEND=jax"):
        share_batches(2, batch_size=4)


@pytest.mark.parametrize(
    ("wanted", "batch_size", "message"),
    [
        (4, 8, "devices: expected at most 2, as JAX found, got 4"),
        (0, 5, "batch_size: expected a multiple of 2 devices, got 5"),
    ],
)
def test_what_cannot_be_shared_is_refused(monkeypatch, wanted, batch_size, message):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["cpu:0", "cpu:1"])
    with pytest.raises(DeviceError, match=message):
        share_batches(wanted, batch_size)
