"""Each alert that a running server can be made to raise: a real Prometheus asks a real server.

The rules are those of deploy/prometheus, with windows of 8 s instead of minutes, and no waiting.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from bodypose_client.errors import ClientError
from bodypose_client.in_flight import map_in_order
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import NO_RETRIES
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import NETWORK, PREPROCESS
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from tests.giving_up import with_slow_network
from tests.greys import grey_png
from tests.processes import wait_for
from tests.prometheus import prometheus
from tests.serving import SPEC

pytestmark = [pytest.mark.triton, pytest.mark.slow]

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yaml"
Firing = Callable[[], set[str]]


@pytest.fixture
def watched(tmp_path) -> Iterator[Callable[[str], Firing]]:
    """Starts Prometheus for one server's metrics; gives what asks for the alerts that fire."""
    text = re.sub(r"\[\d+m\]", "[8s]", RULES.read_text())
    rules = re.sub(r"for: \d+m", "for: 0s", text)
    with ExitStack() as started:

        def start(target: str) -> Firing:
            folder = tmp_path / "prometheus"
            return started.enter_context(prometheus(folder, [target], rules)).firing

        yield start


@contextmanager
def asking(server: EmbeddedServer, images: list[bytes], in_flight: int = 1) -> Iterator[None]:
    """Meanwhile somebody asks without a pause, whatever the answers are."""
    end = threading.Event()

    def ask(client: PoseClient, image: bytes) -> None:
        try:
            client.infer(image)
        except ClientError:
            time.sleep(0.01)

    def go_on() -> None:
        with PoseClient(f"grpc://{server.grpc_url}", retries=NO_RETRIES) as client:
            while not end.is_set():
                list(map_in_order(lambda image: ask(client, image), images, in_flight))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_an_ordinary_load_raises_no_alert(server, watched):
    firing = watched(server.metrics_url)
    with asking(server, [grey_png(99)] * 8, in_flight=4):
        time.sleep(6)
        assert firing() <= {"PoseSlow"}  # on a machine that has other work


def test_nan_from_the_network(watched, tmp_path, tiny_onnx):
    model = tiny_onnx(tmp_path / "nan.onnx", SPEC, nan_above=10)
    build_repository(model, tmp_path / "repository")
    with embedded_server(tmp_path / "repository") as server:
        firing = watched(server.metrics_url)
        with asking(server, [grey_png(12)] * 4):
            time.sleep(3)
            assert "PoseNetworkNotFinite" not in firing()
        with asking(server, [grey_png(240)] * 4):
            wait_for(lambda: "PoseNetworkNotFinite" in firing(), seconds=30)
        assert "PoseInternalErrors" not in firing()


def test_a_killed_model(repository, watched):
    with embedded_server(repository) as server, asking(server, [grey_png(99)] * 4):
        firing = watched(server.metrics_url)
        time.sleep(2)
        assert "PoseServerRestarted" not in firing()
        os.kill(server.model_processes()[NETWORK], signal.SIGKILL)
        wait_for(lambda: "PoseServerRestarted" in firing(), seconds=30)


def test_a_full_server(repository, watched, tmp_path):
    small = shutil.copytree(repository, tmp_path / "small")
    config = small / PREPROCESS / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "64"', 'string_value: "1"'))
    with embedded_server(small) as server:
        firing = watched(server.metrics_url)
        assert "PoseServerFull" not in firing()
        with asking(server, [grey_png(99)] * 32, in_flight=8):
            wait_for(lambda: "PoseServerFull" in firing(), seconds=30)


def test_a_slow_server_whose_queue_grows(repository, watched, tmp_path):
    slow = with_slow_network(repository, tmp_path / "slow", batching=False)
    with embedded_server(slow) as server:
        firing = watched(server.metrics_url)
        with asking(server, [grey_png(99)] * 8, in_flight=4):
            time.sleep(4)
            assert "PoseQueueGrows" not in firing()
        with asking(server, [grey_png(99)] * 200, in_flight=60):
            wait_for(lambda: {"PoseSlow", "PoseQueueGrows"} <= firing(), seconds=40)


def test_senders_that_give_up_and_send_what_is_no_image(repository, watched, tmp_path):
    slow = with_slow_network(repository, tmp_path / "slow", batching=False)
    with embedded_server(slow) as server:
        firing = watched(server.metrics_url)
        with asking(server, [grey_png(99)] * 30, in_flight=16), asking(server, [b"no image"] * 4):
            end = time.monotonic() + 40
            url = f"grpc://{server.grpc_url}"
            with PoseClient(url, timeout_s=0.2, retries=NO_RETRIES) as client:
                while not {"PoseSendersGiveUp", "PoseImagesRejected"} <= firing():
                    assert time.monotonic() < end, firing()
                    list(map_in_order(lambda _: _give_up(client), range(8), 8))


def _give_up(client: PoseClient) -> None:
    with suppress(ClientError):
        client.infer(grey_png(99))


def test_a_server_that_is_gone(repository, watched):
    with embedded_server(repository) as server:
        firing = watched(server.metrics_url)
        assert "PoseTargetDown" not in firing()
        with asking(server, [grey_png(99)] * 8, in_flight=4):
            time.sleep(2)
            assert "PoseNoAnswers" not in firing()
    wait_for(lambda: "PoseTargetDown" in firing(), seconds=30)
