"""Ray without Ray: what is refused before it starts; tests/long/test_bulk.py starts it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

pytest.importorskip("ray", reason="needs Ray: run pip install -e '.[bulk]'")

from bodypose_tools.bulk.jobs import Job, Network, Server
from bodypose_tools.bulk.on_ray import on_ray, workers_for
from bodypose_tools.bulk.settings import BulkError
from bodypose_tools.bulk.sources import Part, Paths
from bodypose_tools.runtimes.settings import GraphRuntime
from tests.processes import free_port


@pytest.fixture
def job(tmp_path) -> Job:
    network = Network(tmp_path / "a.onnx", GraphRuntime.OPENVINO, 2, 1, on_gpu=False)
    return Job(network, tmp_path, "a.onnx", "11", "openvino", 0.25)


def test_an_absent_cluster_is_refused_at_once_in_one_line(job, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    part = Part(0, 1, "11", Paths(tmp_path / "paths", 0, tmp_path))
    began = time.monotonic()

    with pytest.raises(BulkError, match=f"{address}: expected a Ray cluster, got") as refused:
        next(on_ray(job, [part], address=address))

    assert time.monotonic() - began < 20
    assert "\n" not in str(refused.value)


def test_nothing_to_do_starts_nothing(job):
    assert list(on_ray(job, [], address="127.0.0.1:1")) == []


def test_as_many_workers_as_fit_the_cluster(job):
    resources = {"CPU": 9.0, "GPU": 3.0}
    assert workers_for(job, resources) == 4
    on_gpus = replace(job, by=replace(job.by, on_gpu=True))
    assert workers_for(on_gpus, resources) == 3
    assert workers_for(replace(job, by=Server("grpc://a", 8, 60)), resources) == 1


def test_a_cluster_without_what_a_worker_needs_is_refused(job):
    on_gpus = replace(job, by=replace(job.by, on_gpu=True))
    with pytest.raises(BulkError, match="openvino: expected 1 GPU for a worker, got 0"):
        workers_for(on_gpus, {"CPU": 9.0})
