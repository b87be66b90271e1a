"""Owns the benchmark's load: clients in a closed loop over raw gRPC or HTTP."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bodypose_tools.runtimes.clock import spread

# Sends one request and waits; True when it was answered, False when it was refused as too many.
Ask = Callable[[], bool]
_TIMEOUT_S = 60


@dataclass(slots=True)
class Load:
    """What some clients saw in one stretch of time."""

    clients: int
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Answers; 0 when nothing came back while it counted."""
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, Any]:
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
    """`clients` threads that each ask again as soon as they are answered; a warm-up first.

    Args:
        make_ask: called by each client once: its own connection.
        clients: threads.
        seconds: how long clients ask; what is under way then is waited for, and counts.
    """
    load = Load(clients)
    lock = threading.Lock()
    begin = time.perf_counter() + min(1.0, seconds / 4)
    end = begin + seconds

    def work() -> None:
        ask = make_ask()
        while (sent := time.perf_counter()) < end:
            answered = ask()
            now = time.perf_counter()
            if now >= begin:
                with lock:
                    load.seconds = max(load.seconds, now - begin)
                    load.outcomes["answered" if answered else "refused"] += 1
                    if answered:
                        load.latencies_s.append(now - sent)
            if not answered:
                time.sleep(0.02)  # as a client that backs off, in short

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def image_request(jpeg: bytes, model: str = "bodypose") -> Any:
    """The request that asks the ensemble about one encoded image."""
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(len(jpeg).to_bytes(4, "little") + jpeg)
    return request


@contextmanager
def grpc_stub(url: str) -> Iterator[Any]:
    """Every client gets a connection of its own from gRPC's pool."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(url, options=options) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def grpc_asks(stub: Any, request: Any) -> Callable[[], Ask]:
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
    """Triton's raw binary request: the image is the body, nothing else."""
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
