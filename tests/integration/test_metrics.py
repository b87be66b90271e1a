"""Our own figures on the page that a real server shows to Prometheus."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodypose_tools.server import embedded as embedding
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from bodypose_tools.server.wheel import copy_backend
from tests.figures import figures
from tests.processes import wait_for

pytestmark = pytest.mark.triton

PNG = cv2.imencode(".png", np.full((40, 60, 3), 100, np.uint8))[1].tobytes()


@pytest.fixture
def fresh_server(repository) -> Iterator[EmbeddedServer]:
    with embedded_server(repository) as running:
        yield running


def test_a_server_that_nobody_asked_has_counted_nothing(fresh_server):
    counted = figures(fresh_server)

    assert counted["pose_images_total"] == 0  # although Triton has warmed the models up
    assert counted['pose_rejected_images_total{reason="max_pixels"}'] == 0
    assert not any(counted.values())


def test_people_images_refusals_and_times_are_counted(server, by_grpc, refused):
    before = figures(server)
    for _ in range(3):
        by_grpc(server, PNG)  # one person each
    for bad in (b"no picture", PNG[:50], PNG[:20] + b"\0\xff\xff\xff" + PNG[24:]):
        with pytest.raises(refused):
            by_grpc(server, bad)

    after = figures(server)

    counted = {key: after[key] - before[key] for key in after}
    assert counted["pose_images_total"] == counted["pose_people_total"] == 3
    assert counted["pose_people_per_image_count"] == counted["pose_people_per_image_sum"] == 3
    assert counted['pose_people_per_image_bucket{le="0"}'] == 0
    assert counted['pose_people_per_image_bucket{le="1"}'] == 3
    for reason in ("format", "damaged", "max_pixels"):
        assert counted[f'pose_rejected_images_total{{reason="{reason}"}}'] == 1
    for stage in ("preprocess", "network", "grouping"):
        assert 0 < counted[f'pose_stage_seconds_total{{stage="{stage}"}}'] < 10


def test_model_processes_end_well_when_the_server_stops(repository, monkeypatch, tmp_path):
    """Giving the figures back, they died of it: three core dumps for each stop."""
    exit_codes = tmp_path / "exit_codes"

    def with_watched_stub(wheel: Path, folder: Path) -> None:
        copy_backend(wheel, folder)
        stub = folder / "python" / "triton_python_backend_stub"
        real = stub.rename(stub.with_name("real_stub"))
        # Triton calls it once without arguments, to see whether it is there.
        code = f'"{real}" "$@"; code=$?; [ $# = 0 ] || echo $code >>"{exit_codes}"'
        stub.write_text(f"#!/bin/sh\n{code}\n")
        stub.chmod(0o755)

    monkeypatch.setattr(embedding, "copy_backend", with_watched_stub)
    with embedded_server(repository) as running:
        assert figures(running)
        os.kill(running.pid, signal.SIGTERM)  # Triton's own way to stop, as in a container
        wait_for(lambda: exit_codes.exists() and len(exit_codes.read_text().split()) >= 3)

    assert exit_codes.read_text().split()[:3] == ["0"] * 3
