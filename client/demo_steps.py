"""Owns the split of a request's time over the server's models, from Triton's statistics extension.

A server that is plain KServe v2 has no statistics; then there is no split.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException

from .address import Address, Protocol

_PHASES = ("compute_input", "compute_infer", "compute_output")
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """What one model has done since its server started."""

    requests: int
    queue_ns: int
    compute_ns: int


Statistics = Callable[[], Mapping[str, ModelTimes]]  # by model; empty: not available


@dataclass(slots=True)
class StepClock:
    """Means over the requests between `start()` and `split_ms()`: one, if nobody else asks."""

    read: Statistics
    ensemble: str
    _before: threading.local = field(default_factory=threading.local)

    def start(self) -> None:
        self._before.times = self.read()

    def split_ms(self) -> dict[str, float]:
        """Milliseconds `queue` (all models together) and of each model's own computing, by name."""
        before: Mapping[str, ModelTimes] = getattr(self._before, "times", {})
        split: dict[str, float] = {}
        for model, now in self.read().items():
            was = before.get(model)
            # An ensemble's own numbers are sums over its models. A restart begins at 0 again.
            if model == self.ensemble or was is None or now.requests <= was.requests:
                continue
            requests = (now.requests - was.requests) * 1e6
            split["queue"] = split.get("queue", 0) + (now.queue_ns - was.queue_ns) / requests
            split[model] = (now.compute_ns - was.compute_ns) / requests
        return split


def server_statistics(address: Address) -> Statistics:
    """How to read the statistics of the server at `address`."""
    return {Protocol.GRPC: _over_grpc, Protocol.HTTP: _over_http}[address.protocol](address)


def _over_grpc(address: Address) -> Statistics:
    from tritonclient.grpc import InferenceServerClient
    from tritonclient.utils import InferenceServerException

    options = [("grpc.enable_http_proxy", 0)] if address.host in ("127.0.0.1", "localhost") else []

    def read() -> Mapping[str, ModelTimes]:
        try:
            with InferenceServerClient(address.netloc, channel_args=options) as client:
                answer = client.get_inference_statistics(client_timeout=_TIMEOUT_S)
        except InferenceServerException:
            return {}
        return {
            model.name: ModelTimes(
                model.inference_stats.success.count,
                model.inference_stats.queue.ns,
                sum(getattr(model.inference_stats, phase).ns for phase in _PHASES),
            )
            for model in answer.model_stats
        }

    return read


def _over_http(address: Address) -> Statistics:
    def read() -> Mapping[str, ModelTimes]:
        connection = HTTPConnection(address.host, address.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/v2/models/stats")
            models = json.loads(connection.getresponse().read())["model_stats"]
        except (OSError, HTTPException, ValueError, KeyError, TypeError):
            return {}
        finally:
            connection.close()
        return {
            model["name"]: ModelTimes(
                model["inference_stats"]["success"]["count"],
                model["inference_stats"]["queue"]["ns"],
                sum(model["inference_stats"][phase]["ns"] for phase in _PHASES),
            )
            for model in models
        }

    return read
