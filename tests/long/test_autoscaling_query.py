"""What autoscaling reads from a real Prometheus is what images waited, and what was refused."""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean

import pytest

from bodypose_client.errors import ServerBusy
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import NO_RETRIES
from bodypose_tools.deploying.values import DEMAND_QUERY, WAIT_QUERY
from bodypose_tools.repository.pbtxt import PREPROCESS
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from tests.giving_up import with_slow_network
from tests.greys import grey_png
from tests.prometheus import Prometheus, prometheus

pytestmark = [pytest.mark.triton, pytest.mark.slow]

WITHIN = 0.2
LOAD_S = 24
_WINDOW_S = 15
# As it is often written: the mean over all models, the ensemble, which never queues, among them.
_OVER_MODELS = (
    "avg(rate(nv_inference_queue_duration_us[1m]) / rate(nv_inference_request_success[1m])) / 1000"
)


def seconds(query: str) -> str:
    """A query with windows that fit a test with one scrape a second."""
    changed, count = re.subn(r"\[\d+[sm]\]", f"[{_WINDOW_S}s]", query)
    assert count >= 2
    return changed


@dataclass
class Seen:
    """What the callers of one server saw."""

    answered_ms: list[float] = field(default_factory=list)
    refused: int = 0


@contextmanager
def callers(server: EmbeddedServer, count: int) -> Iterator[Seen]:
    """Meanwhile so many callers ask, each as soon as it has its answer."""
    seen, end, image = Seen(), threading.Event(), grey_png(99)

    def go_on() -> None:
        while not end.is_set():
            begun = time.perf_counter()
            try:
                client.infer(image)
                seen.answered_ms.append(1000 * (time.perf_counter() - begun))
            except ServerBusy:
                seen.refused += 1
                time.sleep(0.05)

    with PoseClient(f"grpc://{server.grpc_url}", retries=NO_RETRIES) as client:
        threads = [threading.Thread(target=go_on) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            end.set()
            for thread in threads:
                thread.join()


@pytest.fixture
def servers(repository, tmp_path) -> Iterator[tuple[Prometheus, list[EmbeddedServer]]]:
    """Two servers whose network takes 50 ms for each image, and a Prometheus that asks both."""
    slow = with_slow_network(repository, tmp_path / "slow", batching=False)
    with embedded_server(slow) as one, embedded_server(slow) as two:
        metrics = [one.metrics_url, two.metrics_url]
        with prometheus(tmp_path / "prometheus", metrics) as watching:
            yield watching, [one, two]


def test_it_reads_what_images_waited(servers):
    watching, (one, two) = servers
    with callers(one, 1) as alone:  # who waits for nobody
        time.sleep(4)
    with callers(one, 3) as few, callers(two, 7) as many:
        time.sleep(LOAD_S)
        read_ms, usual_ms = (watching.value(seconds(q)) for q in (WAIT_QUERY, _OVER_MODELS))

    waited_ms = mean(few.answered_ms + many.answered_ms) - mean(alone.answered_ms)
    assert waited_ms > 100
    assert read_ms == pytest.approx(waited_ms, rel=WITHIN)
    assert usual_ms < 0.5 * waited_ms  # which is why it is not that one
    assert watching.value(seconds(DEMAND_QUERY)) == pytest.approx(1)


def test_it_reads_nothing_where_nobody_asks(servers):
    watching, _ = servers
    assert watching.value(seconds(WAIT_QUERY)) is None
    assert watching.value(seconds(DEMAND_QUERY)) is None


def test_a_full_server_shows_in_the_demand(repository, tmp_path):
    slow = with_slow_network(repository, tmp_path / "slow", batching=False)
    small = shutil.copytree(slow, tmp_path / "small")
    config = small / PREPROCESS / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "64"', 'string_value: "2"'))
    with (
        embedded_server(small) as server,
        prometheus(tmp_path / "prometheus", [server.metrics_url]) as watching,
        callers(server, 6) as seen,
    ):
        time.sleep(6)
        before = len(seen.answered_ms), seen.refused
        time.sleep(_WINDOW_S + 1)
        demand = watching.value(seconds(DEMAND_QUERY))
        answered, refused = len(seen.answered_ms) - before[0], seen.refused - before[1]

    assert refused > answered / 2
    assert demand == pytest.approx(1 + refused / answered, rel=WITHIN)
