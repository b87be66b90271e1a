"""All that is around a network is measured, on a real server with a network that costs nothing."""

import os

import numpy as np
import pytest

from bodypose_tools.benchmark.around import measure_served, photos
from bodypose_tools.benchmark.conditions import Setting
from bodypose_tools.benchmark.free_network import write_free_network
from bodypose_tools.benchmark.networks import openvino_graph
from bodypose_tools.benchmark.settings import Effort
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.repository.tuning import Tuning

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def setting() -> Setting:
    return Setting(SHIPPED_MODEL, Effort.QUICK, 1, None, lambda line: None)


@pytest.fixture(scope="module")
def free(setting, tmp_path_factory):
    output = tmp_path_factory.mktemp("free") / "free.onnx"
    network = openvino_graph(setting.model, 1, "f32", [(1, *setting.spec.pixels.dims)])
    return write_free_network(setting, photos(None)[0], network, output)


def test_a_free_network_answers_the_photos_people_for_any_image(setting, free):
    shape = (2, *setting.spec.pixels.dims)
    peaks, limb_scores = openvino_graph(free, 1, "f32", [shape])(np.full(shape, 7, np.uint8))

    assert peaks.shape == (2, *setting.spec.peaks.dims)
    assert limb_scores.shape == (2, *setting.spec.limb_scores.dims)
    assert (peaks[0] == peaks[1]).all()
    assert peaks[..., 2].max() > 0.5


def test_each_steps_time_and_cores_are_told_by_clients(setting, free, tmp_path):
    record = measure_served(setting, free, Tuning(threads=1), (2,), tmp_path)

    alone, (step,) = record["one_client"], record["by_clients"]
    assert list(alone["by_step_ms"]) == [
        "bodypose_preprocess",
        "bodypose_network",
        "bodypose_grouping",
    ]
    shares = [sum(stages.values()) for stages in alone["by_step_ms"].values()]
    whole = sum(shares) + alone["between_steps_ms"] + alone["grpc_ms"]
    assert whole == pytest.approx(alone["latency_ms"]["mean"], rel=0.01)
    assert min(shares) > 0
    assert step["images_per_s"] > 1
    cores = step["cores_per_1000_images_per_s"] * step["images_per_s"] / 1000
    assert 0 < cores < 1.5 * (os.cpu_count() or 1)
