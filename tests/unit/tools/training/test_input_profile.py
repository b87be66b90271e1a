"""The share of the device's own speed that training reaches with real data."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import yaml

from pose_runtime.extras import install_line
from tests.unit.tools.training.test_train import from_network, spec_for


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax") is None, reason=f"no JAX: {install_line('dev')}")
def test_the_profile_compares_real_data_with_kept_batches(drawn_coco, tiny_keras, tmp_path):
    """On JAX, which trains on GPUs, and with averaged weights: there, a second `fit` fails."""
    changes = {"optimizer": {"ema_momentum": 0.9}, **from_network(tiny_keras)}
    spec = spec_for(drawn_coco, 2, **changes).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    options = ["-e", "spec.yaml", "--steps", "2", "--json", "input.json"]
    done = subprocess.run(
        [sys.executable, "-m", "bodypose_tools.cli", "profile-input", *options],
        cwd=tmp_path,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles faster
        },
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "input.json").read_text())
    rates = record["images_per_second"]
    assert min(rates.values()) > 0
    assert record["share"] == pytest.approx(
        rates["real_data"] / rates["batches_on_device"], rel=0.02
    )
    assert (record["batch_size"], record["workers"], record["backend"]) == (2, 1, "jax")
    said = [line.split(",")[0] for line in done.stdout.splitlines() if line.startswith("round")]
    assert said == [f"round {n}/3" for n in (1, 2, 3)]
