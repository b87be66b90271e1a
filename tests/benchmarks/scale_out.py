"""Three servers on one machine, behind Envoy and behind the client's own balancing.

Six callers ask: how evenly it spreads, then, as fast as they are answered, a rolling update from
version 1 to 2, one server drained, one killed. Every answer is compared with a single server's, bit
by bit.

python -m tests.benchmarks.scale_out --out docs/results/fleet.json
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bodypose_client.errors import ClientError
from bodypose_client.pose_client import PoseClient
from bodypose_tools.repository import versions
from bodypose_tools.repository.pbtxt import ENSEMBLE
from bodypose_tools.results.record import Measurement
from bodypose_tools.server.embedded import embedded_server
from bodypose_tools.server.readiness import is_ready
from tests.gateways import gateway
from tests.greys import grey_png, urls_in
from tests.processes import TOOLS, processes_of, until_ready
from tests.two_versions import two_versions

CALLERS = 6
SERVERS = 3
DRAIN_S = 4
SPREAD_S, SPREAD_PAUSE_S = 8.0, 0.04
BALANCERS = ("envoy", "round_robin")
PICTURES = [grey_png(grey) for grey in range(6, 42, 6)]

Answer = tuple[bytes, bytes]  # keypoints and scores, bit by bit


@dataclass(slots=True)
class Running:
    """One `tools serve`, and what it says of itself."""

    process: subprocess.Popen[str]
    repository: Path
    urls: dict[str, str]


@dataclass(slots=True)
class Load:
    """What callers without a pause were told."""

    expected: dict[Answer, tuple[int, int]]  # a single server's -> version and picture
    answers: Counter[int] = field(default_factory=Counter)  # by version
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    latest: list[int] = field(default_factory=list)  # versions, in the order of answers
    pause_s: float = 0.0  # of each caller after each answer

    def take(self, answer: Answer, picture: int) -> None:
        known = self.expected.get(answer)
        if known is None or known[1] != picture:
            self.wrong.append(f"picture {picture}: {known or 'an unknown answer'}")
            return
        self.answers[known[0]] += 1
        self.latest.append(known[0])

    def until(self, version: int, seconds: float = 30) -> float:
        """Seconds until nothing but `version` has come for a while."""
        began = time.monotonic()
        while not (len(self.latest) > 100 and set(self.latest[-100:]) == {version}):
            assert time.monotonic() - began < seconds, self.latest[-100:]
            time.sleep(0.05)
        return time.monotonic() - began


def answer_of(client: PoseClient, picture: int) -> Answer:
    poses = client.infer(PICTURES[picture])
    return poses.keypoints.tobytes(), poses.scores.tobytes()


def single_answers(repository: Path) -> dict[Answer, tuple[int, int]]:
    """What one server answers for every picture in either version."""
    found = {}
    for version in (1, 2):
        if version == 2:
            versions.promote(repository, 2, None)
        with (
            embedded_server(repository) as server,
            PoseClient(f"grpc://{server.grpc_url}") as client,
        ):
            for picture in range(len(PICTURES)):
                found[answer_of(client, picture)] = (version, picture)
    versions.rollback(repository, None)
    assert len(found) == 2 * len(PICTURES)  # or versions could not be told apart
    return found


@contextmanager
def serving(repository: Path, folder: Path) -> Iterator[list[Running]]:
    """Three servers, each of a copy of the repository that it follows."""
    started: list[tuple[subprocess.Popen[str], Path]] = []
    ports = [each for kind in ("http", "grpc", "metrics") for each in (f"--{kind}-port", "0")]
    options = [*ports, "--drain-seconds", str(DRAIN_S), "--model-control-mode", "poll"]
    try:
        for number in range(SERVERS):
            copy = shutil.copytree(repository, folder / f"repository-{number}")
            shutil.copyfile(f"{repository}.json", f"{copy}.json")
            process = subprocess.Popen(
                [*TOOLS, "serve", str(copy), *options],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
            started.append((process, copy))
        yield [Running(process, copy, urls_in(until_ready(process))) for process, copy in started]
    finally:
        for process, _ in started:
            process.kill()
            process.communicate()


@contextmanager
def balanced(name: str, servers: Sequence[Running], folder: Path) -> Iterator[str]:
    """The URL by which callers reach all servers."""
    if name == "round_robin":
        yield f"grpc://{','.join(each.urls['gRPC'] for each in servers)}"
        return
    (folder / name).mkdir()
    urls, repository = [each.urls for each in servers], servers[0].repository
    with gateway(name, urls, repository, folder / name) as netloc:
        yield f"grpc://{netloc}"


@contextmanager
def load_on(url: str, expected: dict[Answer, tuple[int, int]]) -> Iterator[Load]:
    """Six callers with the client's own retries, each with a connection of its own."""
    load, end = Load(expected), threading.Event()

    def go_on(number: int) -> None:
        with PoseClient(url, timeout_s=20) as client:
            while not end.is_set():
                number = (number + 1) % len(PICTURES)
                try:
                    load.take(answer_of(client, number), number)
                except ClientError as error:
                    load.lost.append(f"{type(error).__name__}: {error}")
                time.sleep(load.pause_s)

    callers = [threading.Thread(target=go_on, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    try:
        yield load
    finally:
        end.set()
        for caller in callers:
            caller.join()


def spread_over(servers: Sequence[Running], load: Load) -> dict[str, Any]:
    """Images that each server answers, and the farthest from their mean.

    Callers pause meanwhile: where servers are full, Envoy gives less to the slower ones, as it
    should, and three on one machine are slower in turns.
    """
    load.pause_s = SPREAD_PAUSE_S
    with ExitStack() as stack:
        urls = [f"grpc://{server.urls['gRPC']}" for server in servers]
        clients = [stack.enter_context(PoseClient(url)) for url in urls]
        before = _images_of(clients)
        time.sleep(SPREAD_S)
        images = [now - then for now, then in zip(_images_of(clients), before, strict=True)]
    load.pause_s = 0.0
    mean = sum(images) / len(images)
    return {"images": images, "farthest": round(max(abs(n - mean) for n in images) / mean, 3)}


def _images_of(clients: Sequence[PoseClient]) -> list[int]:
    """Number of images that each server has answered since it started."""
    models = [client.inspect().models for client in clients]
    return [sum(each.images for each in known if each.name == ENSEMBLE) for known in models]


def drain(server: Running) -> None:
    server.process.terminate()
    server.process.wait(60)


def kill(server: Running) -> None:
    """As when the machine is gone: the server first, and nobody who starts it again."""
    triton = processes_of(server.process, "tritonserver")
    server.process.kill()
    for pid in triton:
        os.kill(pid, signal.SIGKILL)


def measured(
    name: str, expected: dict[Answer, tuple[int, int]], repository: Path
) -> dict[str, Any]:
    """Everything that happens to three servers behind one balancer, under one load."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = stack.enter_context(serving(repository, folder))
        url = stack.enter_context(balanced(name, servers, folder))
        load = stack.enter_context(load_on(url, expected))
        load.until(1)
        spread = spread_over(servers, load)
        began = time.monotonic()
        for server in servers:
            ready = partial(is_ready, server.urls["HTTP"])
            versions.promote(server.repository, 2, ready, 60)
        load.until(2)
        updated_s = time.monotonic() - began
        seen_before = sum(load.answers.values())
        lost: dict[str, int] = {"update": len(load.lost)}
        for what, act, server in (("drain", drain, servers[0]), ("kill", kill, servers[1])):
            act(server)
            time.sleep(3)
            lost[what] = len(load.lost) - sum(lost.values())
        alone = sum(load.answers.values()) - seen_before
    return {
        "spread": spread,
        "update_seconds": round(updated_s, 1),
        "answers_by_version": {str(key): load.answers[key] for key in sorted(load.answers)},
        "answers_while_drained_and_killed": alone,
        "lost": lost,
        "unlike_a_single_server": len(load.wrong),
        "examples": [*load.lost[:3], *load.wrong[:3]],
    }


def scale_out(folder: Path, balancers: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """The run behind each balancer."""
    repository = two_versions(folder)
    expected = single_answers(repository)
    results = {}
    for name in balancers:
        results[name] = measured(name, expected, repository)
        say(f"{name}: {results[name]}")
    return {"servers": SERVERS, "callers": CALLERS, "balancers": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    measurement = Measurement()
    with tempfile.TemporaryDirectory() as folder:
        made = scale_out(Path(folder), BALANCERS, lambda line: print(line))  # noqa: T201
        record = {"schema": "bodypose-fleet/1", **made}
        measurement.write(
            out, record, models=[Path(folder) / "one.onnx", Path(folder) / "two.onnx"]
        )


if __name__ == "__main__":
    main()
