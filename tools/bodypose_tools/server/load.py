"""Load on a running server: clients in a closed loop over raw gRPC or HTTP, and the knee."""

from __future__ import annotations

import http.client
import itertools
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bodypose_tools.runtimes.clock import spread

# Sends one request and waits for it; False when the server refused it because it has too many.
Ask = Callable[[], bool]
Curve = Sequence[dict[str, Any]]  # `Load.summary` by rising number of clients

_TIMEOUT_S = 60
_KNEE = 0.95  # share of the best rate that the knee has
_BACK_OFF_S = 0.02  # a client's wait after a refusal


@dataclass(slots=True)
class Load:
    """Latencies and outcomes of `clients` in one stretch of time."""

    clients: int
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Answers a second; 0 when none came in the time that counts."""
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """The step of a curve, for JSON: rate, latency in milliseconds, refusals."""
        latencies = np.array(self.latencies_s or [0.0], np.float64) * 1000
        return {
            "clients": self.clients,
            "images_per_s": round(self.per_second, 2),
            "latency_ms": {
                **spread(latencies),
                "p99": round(float(np.percentile(latencies, 99)), 1),
            },
            "refused": self.outcomes["refused"],
        }


def closed_loop(make_ask: Callable[[], Ask], clients: int, seconds: float) -> Load:
    """Load of `clients` threads that each ask again as soon as they are answered.

    The first quarter, at most one second, warms up and does not count.

    Args:
        make_ask: called once by each client, for a connection of its own.
        clients: number of threads.
        seconds: how long clients ask after the warm-up; requests under way at the end count, too.

    Raises:
        Whatever an ask raises, once the other clients have stopped.
    """
    load = Load(clients)
    lock, over = threading.Lock(), threading.Event()
    begin = time.perf_counter() + min(1.0, seconds / 4)
    end = begin + seconds

    def work(client: int) -> None:
        ask = make_ask()
        while (sent := time.perf_counter()) < end and not over.is_set():
            answered = ask()
            now = time.perf_counter()
            if now >= begin:
                with lock:
                    load.seconds = max(load.seconds, now - begin)
                    load.outcomes["answered" if answered else "refused"] += 1
                    if answered:
                        load.latencies_s.append(now - sent)
            if not answered:
                time.sleep(_BACK_OFF_S)

    with ThreadPoolExecutor(clients) as pool:
        try:
            list(pool.map(work, range(clients)))
        finally:
            over.set()  # after an error or Ctrl-C the other clients stop, too
    return load


class Crowd:
    """Clients in several processes, since one Python sends at most some thousand images a second.

    Each sends all images in turn, from another one on.
    """

    def __init__(self, url: str, images: Sequence[bytes], processes: int) -> None:
        """Start the processes.

        Args:
            url: gRPC endpoint, `host:port`.
            images: encoded.
            processes: at most; each has as many clients as the others, or one more.
        """
        self._url, self._images, self._processes = url, tuple(images), processes
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, context)
        list(self._pool.map(len, [()] * processes))

    def closed_loop(self, clients: int, seconds: float) -> Load:
        """As `closed_loop`, of all processes together."""
        share, rest = divmod(clients, self._processes)
        sizes = [share + (number < rest) for number in range(self._processes)]
        begin = time.time() + 1.0  # when all have read their images
        asked = [
            self._pool.submit(_part_of_crowd, self._url, self._images, size, seconds, begin)
            for size in sizes
            if size
        ]
        loads = [each.result() for each in asked]
        return joined(loads, clients, max(load.seconds for load in loads))

    def close(self) -> None:
        self._pool.shutdown()


def _part_of_crowd(
    url: str, images: Sequence[bytes], clients: int, seconds: float, begin: float
) -> Load:
    requests = [image_request(jpeg) for jpeg in images]
    firsts = itertools.count()
    with grpc_stub(url) as stub:

        def make_ask() -> Ask:
            first = 7 * (os.getpid() + next(firsts))
            asks = [grpc_asks(stub, request)() for request in requests]
            turns = itertools.count(first)
            return lambda: asks[next(turns) % len(asks)]()

        time.sleep(max(0.0, begin - time.time()))
        return closed_loop(make_ask, clients, seconds)


def joined(loads: Sequence[Load], clients: int, seconds: float) -> Load:
    """Several loads as one of `clients`, which took `seconds` in all."""
    return Load(
        clients,
        seconds,
        [latency for load in loads for latency in load.latencies_s],
        sum((load.outcomes for load in loads), Counter()),
    )


def knee_of(curve: Curve) -> dict[str, Any]:
    """The step with the fewest clients that has nearly the best rate."""
    best = max(step["images_per_s"] for step in curve)
    return next(step for step in curve if step["images_per_s"] >= _KNEE * best)


def image_request(jpeg: bytes, model: str = "bodypose") -> Any:
    """The KServe request for the people in one encoded image."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(len(jpeg).to_bytes(4, "little") + jpeg)
    return request


@contextmanager
def grpc_stub(url: str) -> Iterator[Any]:
    """The stub of a server's gRPC endpoint, `host:port`."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(url, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def grpc_asks(stub: Any, request: Any) -> Callable[[], Ask]:
    """Clients that send `request` again and again over the one channel of `stub`."""

    def ask() -> bool:
        try:
            stub.ModelInfer(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return False
            raise
        return True

    return lambda: ask


def http_asks(url: str, jpeg: bytes, model: str = "bodypose") -> Callable[[], Ask]:
    """Clients that each send the image as the body of Triton's raw binary request."""
    headers = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}

    def make() -> Ask:
        connection = http.client.HTTPConnection(url, timeout=_TIMEOUT_S)

        def ask() -> bool:
            connection.request("POST", f"/v2/models/{model}/infer", jpeg, headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status == http.client.SERVICE_UNAVAILABLE:
                return False
            if answer.status != http.client.OK:
                raise OSError(f"HTTP {answer.status} from {url}")
            return True

        return ask

    return make
