"""What `tools tune` measures is the real server with the settings that it tries."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from bodypose_tools.benchmark.settings import Objective
from bodypose_tools.benchmark.tune import CLIENTS, Goal, measured_curve
from bodypose_tools.repository.tuning import Tuning
from pose_runtime.spec import PipelineSpec
from tests.serving import MISSING_WHEEL

pytestmark = pytest.mark.triton

TUNING = Tuning(
    preprocess_instances=2, network_instances=2, network_batch=2, queue_delay_us=500, threads=1
)


@pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason=MISSING_WHEEL)
def test_every_number_of_clients_is_answered(tmp_path, tiny_onnx: Callable[..., Path]):
    model = tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec(network_hw=(32, 48)))
    curve = measured_curve(model, TUNING, seconds=0.3)
    assert [step["clients"] for step in curve] == list(CLIENTS)
    assert all(step["images_per_s"] > 0 and step["refused"] == 0 for step in curve)
    assert Goal(Objective.THROUGHPUT).score(curve) == max(step["images_per_s"] for step in curve)
