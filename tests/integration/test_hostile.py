"""The hostile images of `tests.fuzz.hostile_images`, sent to a real server: all get an answer."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bodypose_tools.repository.build import build_repository
from bodypose_tools.server.bounds import bounds_of
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from pose_runtime.poses import Poses
from tests.fuzz import hostile_images
from tests.processes import wait_for
from tests.serving import MISSING_WHEEL, SPEC, Refused

pytestmark = pytest.mark.triton

# In the network of these tests joint 0 stands at (1 + STEP * the pixels' mean) network pixels.
STEP = 0.125
SCALE = 0.8  # of a 60 x 40 image in the network's 48 x 32


@pytest.fixture(scope="module")
def repository(tmp_path_factory, tiny_onnx) -> Path:
    pytest.importorskip("pytriton", reason=MISSING_WHEEL)
    folder = tmp_path_factory.mktemp("hostile")
    build_repository(tiny_onnx(folder / "tiny.onnx", SPEC, step=STEP), folder / "repository")
    return folder / "repository"


@pytest.fixture(scope="module")
def server(repository) -> Iterator[EmbeddedServer]:
    with embedded_server(repository) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def server_ready_in_the_end(server):
    yield
    connection = http.client.HTTPConnection(server.http_url, timeout=30)
    connection.request("GET", "/v2/health/ready")
    assert connection.getresponse().status == http.client.OK
    connection.close()


def test_unusual_pictures_are_answered(server, by_grpc):
    for name, data in hostile_images.answered().items():
        poses = by_grpc(server, data)
        expected = (1 + STEP * hostile_images.GREY) / SCALE
        assert poses.keypoints[0, 0, 0] == pytest.approx(expected, abs=4 * STEP), name


def test_hostile_bytes_are_refused_with_their_reason(server, by_grpc, refused):
    for name, (data, words) in hostile_images.refused().items():
        with pytest.raises(refused) as caught:
            by_grpc(server, data)
        assert words in str(caught.value), name
        assert len(str(caught.value).splitlines()) == 1, name


def test_what_may_take_long_is_decoded_by_a_process_that_goes_with_the_server(
    repository, by_grpc, refused
):
    large = hostile_images.encoded("png", np.full((4000, 4000, 3), 100, np.uint8))
    with embedded_server(repository) as server:
        model = server.model_processes()["bodypose_preprocess"]
        wait_for(lambda: child_of(model))
        started = child_of(model)
        assert in_time(lambda: by_grpc(server, large)).scores[0] > 0
        os.kill(started, signal.SIGKILL)
        with pytest.raises(refused, match="which ended the process that decodes"):
            by_grpc(server, large)
        assert in_time(lambda: by_grpc(server, large)).scores[0] > 0  # by another one
        last = child_of(server.model_processes()["bodypose_preprocess"])
        assert last not in (0, started)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{last}/cmdline").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{last}/cmdline").exists()


def in_time(ask: Callable[[], Poses]) -> Poses:
    """An answer, although a busy machine may take longer than the limit to decode."""
    for _ in range(20):
        try:
            return ask()
        except Refused as error:
            if "took longer" not in str(error):
                raise
    return ask()


def child_of(model: int) -> int:
    """The process that decodes for a model's; 0 without one."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if (
                int(fields[1]) == model
                and b"decode_process" in path.with_name("cmdline").read_bytes()
            ):
                return int(path.parent.name)
    return 0


def test_nan_from_the_network_fails_its_own_image_only(tmp_path, tiny_onnx, by_grpc, refused):
    """Bright and dark images at once, so that they share batches; bright ones become NaN."""
    build_repository(tiny_onnx(tmp_path / "tiny.onnx", SPEC, nan_above=150), tmp_path / "r")
    images = [
        hostile_images.encoded("png", np.full((40, 60, 3), grey, np.uint8))
        for grey in (20, 200) * 8
    ]

    def answer(image: bytes) -> float | str:
        try:
            return float(by_grpc(server, image).keypoints[0, 0, 0])
        except refused as error:
            return str(error)

    with embedded_server(tmp_path / "r") as server, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(answer, images))

    assert answers[::2] == pytest.approx([21 / SCALE] * 8)
    assert all(
        "expected finite numbers, got NaN or infinity" in str(each) for each in answers[1::2]
    )


def test_a_body_beyond_all_limits_leaves_shared_memory_bounded(
    tmp_path, tiny_onnx, by_grpc, refused
):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    build_repository(model, tmp_path / "r", limits={"max_bytes": 2**20})
    bound = bounds_of(tmp_path / "r").region_bytes
    good = hostile_images.encoded("png", hostile_images.picture())
    with embedded_server(tmp_path / "r") as server:
        first = by_grpc(server, good).scores
        pid = server.pid
        for size in (bound // 2, 2 * bound):
            with pytest.raises(refused, match=r"max_bytes|Failed to increase the shared memory"):
                by_grpc(server, b"\xff\xd8\xff" + bytes(size))
            regions = list(Path("/dev/shm").glob(f"bodypose_{os.getpid()}_*"))
            assert max(path.stat().st_size for path in regions) <= bound
        assert (by_grpc(server, good).scores == first).all()
        assert server.pid == pid
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"Max data size +\d+ ", limits)
