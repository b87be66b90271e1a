"""One generator process: greenlets that send requests and note what came of each.

It is told what to do by lines of JSON on stdin, and answers each with a line: first a `Setting`,
then any number of `Work`. Clocks are the machine's monotonic one, which all its processes share.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402
import numpy as np  # noqa: E402

from bodypose_client.wire.address import Address  # noqa: E402
from bodypose_loadtest.arrivals import poisson_arrivals, total_s, users_at  # noqa: E402
from bodypose_loadtest.orders import Loop, Setting, Work  # noqa: E402
from bodypose_loadtest.records import RECORD  # noqa: E402

from .bodies import Body, request_body  # noqa: E402
from .senders import Sender, open_sender  # noqa: E402

_USER_LOOKS_AGAIN_S = 0.02


class Generator:
    """What one process sends, and what it has noted."""

    def __init__(self, sender: Sender, bodies: Sequence[Body], weights: Sequence[float]) -> None:
        self._sender, self._bodies = sender, bodies
        self._weights = np.asarray(weights) / np.sum(weights)
        self._notes: list[tuple[float, float, float, int, int]] = []
        self._errors: list[str] = [""]

    def run(self, work: Work) -> dict[str, object]:
        """Do `work` from its start to the last answer; what is noted goes to its file."""
        self._notes.clear()
        random = np.random.default_rng(work.seed)
        _sleep_until(work.start_at)
        cpu = time.process_time()
        if work.loop is Loop.OPEN:
            self._open(work, random)
        else:
            self._closed(work, random)
        cpu_s = time.process_time() - cpu
        wall_s = time.monotonic() - work.start_at
        np.save(work.out, np.array(self._notes, RECORD))
        return {"cpu_s": cpu_s, "wall_s": wall_s, "errors": self._errors}

    def _open(self, work: Work, random: np.random.Generator) -> None:
        arrivals = poisson_arrivals(work.phases, random)
        calls = []
        for arrival, body in zip(arrivals, self._draw(random, len(arrivals)), strict=True):
            intended = work.start_at + float(arrival)
            _sleep_until(intended)
            calls.append(gevent.spawn(self._call, intended, body))
        gevent.joinall(calls, raise_error=True)

    def _closed(self, work: Work, random: np.random.Generator) -> None:
        most = round(max(phase.load for phase in work.phases))
        users = [
            gevent.spawn(self._user, work, number, np.random.default_rng(seed))
            for number, seed in enumerate(random.integers(0, 2**63, most))
        ]
        gevent.joinall(users, raise_error=True)

    def _user(self, work: Work, number: int, random: np.random.Generator) -> None:
        end = total_s(work.phases)
        bodies = self._endless(random)
        while (now := time.monotonic() - work.start_at) < end:
            if number < users_at(work.phases, now):
                self._call(work.start_at + now, next(bodies))
            else:
                gevent.sleep(_USER_LOOKS_AGAIN_S)

    def _call(self, intended: float, body: int) -> None:
        start = time.monotonic()
        kind = self._sender.send(self._bodies[body])
        self._notes.append((intended, start, time.monotonic(), body, self._number(kind)))

    def _number(self, kind: str) -> int:
        if kind not in self._errors:
            self._errors.append(kind)
        return self._errors.index(kind)

    def _draw(self, random: np.random.Generator, count: int) -> list[int]:
        return list(random.choice(len(self._bodies), count, p=self._weights).tolist())

    def _endless(self, random: np.random.Generator) -> Iterator[int]:
        while True:
            yield from self._draw(random, 1000)


def _sleep_until(moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        gevent.sleep(left)  # counts from when the loop last looked at the clock, so look again


def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a file for each connection
    setting = Setting.from_json(json.loads(sys.stdin.readline()))
    address = Address.parse(setting.url)
    bodies = [request_body(address, Path(image).read_bytes()) for image in setting.images]
    sender = open_sender(address, setting.access, setting.timeout_s, setting.connections)
    generator = Generator(sender, bodies, setting.weights)
    gc.collect()
    gc.freeze()  # looking through all that was imported took 30 ms, amid a measurement
    _say({"ready": True})
    try:
        for line in sys.stdin:
            _say(generator.run(Work.from_json(json.loads(line))))
    finally:
        sender.close()


def _say(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
