"""`tools train` in two processes, as on two hosts, is `tools train` in one."""

import csv
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest

from pose_runtime.extras import install_line
from tests.processes import free_port
from tests.unit.tools.training.test_train import from_network, spec_for

pytestmark = pytest.mark.skipif(find_spec("jax") is None, reason=f"no JAX: {install_line('dev')}")
TOOLS = "from bodypose_tools.cli import main; main()"


def start(folder: Path, rank: int, count: int, port: int, *options: str) -> subprocess.Popen:
    told = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_PROCESS_ID": str(rank),
    }
    jax = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    return subprocess.Popen(
        [sys.executable, "-c", TOOLS, "train", "-e", "spec.yaml", "-r", "run", *options],
        cwd=folder,
        env={**os.environ, **jax, **(told if count > 1 else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(folder: Path, spec, count: int, *options: str) -> list[str]:
    """What each process said."""
    folder.mkdir(exist_ok=True)
    (folder / "spec.yaml").write_text(json.dumps(spec.model_dump(mode="json")))
    port = free_port()
    running = [start(folder, rank, count, port, *options) for rank in range(count)]
    try:
        said = [process.communicate(timeout=400) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * count, said
    return [out for out, _ in said]


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "run" / "log.csv").read_text().splitlines()))


def test_two_processes_train_as_one_and_resume_together(drawn_coco, tiny_keras, tmp_path):
    made = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        for epochs, options in ((2, ()), (4, ("--resume",))):
            spec = spec_for(
                drawn_coco, epochs, processes=count, random_seed=1, **from_network(tiny_keras)
            )
            said = train(folder, spec, count, *options)
        made[count] = rows(folder)
        assert "epoch 4/4" in said[0]
    assert "epoch" not in said[1]  # the second one writes and says nothing of its own

    one, two = ([float(row["loss"]) for row in made[count]] for count in (1, 2))
    assert two == pytest.approx(one, rel=1e-3)
    assert one[3] != pytest.approx(one[0], rel=1e-2)  # there was something to learn
    assert made[2][-1]["AP"] == made[1][-1]["AP"]
    weights = [
        keras.saving.load_model(tmp_path / str(count) / "run" / "best.keras", compile=False)
        for count in (1, 2)
    ]
    for mine, theirs in zip(*(model.get_weights() for model in weights), strict=True):
        assert np.allclose(mine, theirs, atol=2e-3)
