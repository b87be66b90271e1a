"""The server's own description: its name, its configuration, and its statistics."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bodypose_client.errors import ClientError, ServerUnavailable
from bodypose_client.wire.access import Access
from bodypose_client.wire.address import Address, Protocol
from bodypose_client.wire.connection import server_error
from bodypose_client.wire.deadline import Deadline
from bodypose_client.wire.http_messages import Question, error_text

_TIMEOUT_S = 10
_STEPS = ("queue", "compute_input", "compute_infer", "compute_output")

Counters = Mapping[str, Mapping[str, int]]  # model -> counter -> value since the server started


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Who serves what; empty where the server does not say."""

    name: str
    version: str
    model_version: str
    model_sha256: str
    config_sha256: str  # of all models' configurations

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in self.__slots__}


class Probe:
    """Asks one server over its own protocol. It keeps no connection open between questions."""

    def __init__(self, address: Address, access: Access) -> None:
        self._address, self._access = address, access

    def facts(self) -> ServerFacts:
        """Name, version and model of the server.

        Raises:
            ClientError: nobody answers, or not us.
        """
        server = self._ask("ServerMetadata", "/v2", {})
        if "model_configuration" not in server.get("extensions", ()):
            return ServerFacts(server.get("name", ""), server.get("version", ""), "", "", "")
        models = sorted(self._statistics(server)) or [self._address.model]
        configs = {model: self._config(model) for model in models}
        parameters = configs.get(self._address.model, {}).get("parameters", {})
        return ServerFacts(
            server["name"],
            server["version"],
            _parameter(parameters, "version"),
            _parameter(parameters, "model_sha256"),
            # The two protocols spell a configuration differently: hashes compare within one.
            f"{self._address.protocol}:{_sha256(configs)}",
        )

    def counters(self) -> Counters:
        """The counters of every model; empty when the server keeps none, or does not tell us.

        Raises:
            ClientError: nobody answers, or not us.
        """
        return self._statistics(self._ask("ServerMetadata", "/v2", {}))

    def _config(self, model: str) -> Any:
        answer = self._ask("ModelConfig", f"/v2/models/{model}/config", {"name": model})
        return answer.get("config", answer)

    def _statistics(self, server: Mapping[str, Any]) -> Counters:
        if "statistics" not in server.get("extensions", ()):
            return {}
        try:
            answer = self._ask("ModelStatistics", "/v2/models/stats", {})
        except ClientError:  # a gateway lets nobody ask
            return {}
        return {model["name"]: _counters(model) for model in answer.get("model_stats", ())}

    def _ask(self, method: str, path: str, message: Mapping[str, str]) -> Any:
        if self._address.protocol is Protocol.GRPC:
            return _ask_grpc(self._address, self._access, method, message)
        return _ask_http(self._address, self._access, path)


@contextlib.contextmanager
def counters_at(probe: Probe, moments: Sequence[float]) -> Iterator[list[Counters]]:
    """The counters at each moment of the monotonic clock, complete when the block has ended.

    A server that is too busy to answer leaves an empty entry.
    """
    counted: list[Counters] = []

    def look() -> None:
        for moment in moments:
            time.sleep(max(0.0, moment - time.monotonic()))
            try:
                counted.append(probe.counters())
            except ClientError:
                counted.append({})

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield counted
    thread.join()


def server_split(before: Counters, after: Counters, ensemble: str) -> dict[str, Any]:
    """What each composing model did between two looks: batch formed, queue and compute, in ms.

    An ensemble that has composing models only hands requests on, so it is left out.
    """
    if not before:
        return {}
    models = {}
    for name, counted in after.items():
        delta = {key: value - before.get(name, {}).get(key, 0) for key, value in counted.items()}
        if delta["executions"] > 0:
            models[name] = _one_model(delta)
    if len(models) > 1:
        models.pop(ensemble, None)
    queue = sum(model["queue_ms"] for model in models.values())
    compute = sum(model["compute_ms"] for model in models.values())
    return {"queue_ms": queue, "compute_ms": compute, "models": models} if models else {}


def _one_model(delta: Mapping[str, int]) -> dict[str, float]:
    def mean_ms(step: str) -> float:
        count = delta[f"{step}_count"]
        return delta[f"{step}_ns"] / count / 1e6 if count else 0.0

    steps = {f"{step}_ms": mean_ms(step) for step in _STEPS}
    return {
        "requests": delta["success_count"],
        "failures": delta["fail_count"],
        "mean_batch": delta["images"] / delta["executions"],
        **steps,
        "compute_ms": sum(value for name, value in steps.items() if name != "queue_ms"),
    }


def _counters(model: Mapping[str, Any]) -> dict[str, int]:
    counted = {
        "images": int(model.get("inference_count", 0)),
        "executions": int(model.get("execution_count", 0)),
    }
    times = model.get("inference_stats", {})
    for step in ("success", "fail", *_STEPS):
        for field in ("count", "ns"):
            counted[f"{step}_{field}"] = int(times.get(step, {}).get(field, 0))
    return counted


def _ask_grpc(address: Address, access: Access, method: str, message: Mapping[str, str]) -> Any:
    import grpc
    from google.protobuf.json_format import MessageToDict
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    from bodypose_client.wire.grpc import our_errors
    from bodypose_client.wire.grpc_channels import open_channel

    deadline = Deadline.after(_TIMEOUT_S)
    with open_channel(grpc, address, access) as channel, our_errors(address, deadline):
        call = getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)
        request = getattr(service_pb2, f"{method}Request")(**message)
        answer = call(request, timeout=_TIMEOUT_S, metadata=tuple(access.headers.items()))
    return MessageToDict(answer, preserving_proto_field_name=True)


def _ask_http(address: Address, access: Access, path: str) -> Any:
    from bodypose_client.wire.http import Sockets

    sockets = Sockets.open(address, access)
    try:
        question = Question("GET", path, headers=access.headers)
        answer = sockets.ask(question, Deadline.after(_TIMEOUT_S))
    finally:
        sockets.close()
    if answer.status != 200:
        raise server_error(address, str(answer.status), error_text(answer.body))
    try:
        return json.loads(answer.body)
    except ValueError as error:
        raise ServerUnavailable(str(address), "an answer that is not KServe v2") from error


def _parameter(parameters: Mapping[str, Any], name: str) -> str:
    return str(parameters.get(name, {}).get("string_value", ""))


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
