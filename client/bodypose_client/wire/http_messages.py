"""KServe v2 over HTTP without its sockets: questions, and the meaning of answers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bodypose_client.errors import ServerTimeout, ServerUnavailable

from .access import Access
from .address import Address
from .connection import (
    Connection,
    Model,
    ModelInfo,
    Request,
    ServerInfo,
    SharedRegion,
    Tensors,
    server_error,
)
from .deadline import Deadline
from .http_body import request_body, tensors_in
from .statistics import model_statistics, warm_up_in


@dataclass(frozen=True, slots=True)
class Question:
    """One HTTP request."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP response; names of headers are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Ask = Callable[[Question, Deadline], Coroutine[Any, Any, Answer]]


def http_connection(
    address: Address, access: Access, ask: Ask, close: Callable[[], Coroutine[Any, Any, None]]
) -> Connection:
    """A connection over whatever carries questions and answers."""

    async def asked(
        method: str,
        path: str,
        deadline: Deadline,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        question = Question(method, path, body, {**access.headers, **(headers or {})})
        answer = await ask(question, deadline)
        if answer.status != 200:
            raise server_error(address, str(answer.status), error_text(answer.body))
        return answer

    async def infer(request: Request) -> Tensors:
        try:
            timeout_us = request.deadline.left_us()
        except TimeoutError as error:
            raise ServerTimeout(str(address), request.deadline.timeout_s) from error
        body, headers = request_body(request.inputs, timeout_us)
        path = f"{model_path(request.model)}/infer"
        answer = await asked("POST", path, request.deadline, body, {**request.headers, **headers})
        with _kserve(address):
            return tensors_in(answer.body, answer.headers)

    async def describe(model: Model, deadline: Deadline) -> ModelInfo:
        metadata = await asked("GET", model_path(model), deadline)
        config = await asked("GET", f"{model_path(model)}/config", deadline)
        with _kserve(address):
            described = _json_in(config)
            parameters = {
                key: value["string_value"] for key, value in described.get("parameters", {}).items()
            }
            versions = tuple(_json_in(metadata)["versions"])
            return ModelInfo(versions, parameters, warm_up_in(described))

    async def inspect(deadline: Deadline) -> ServerInfo:
        answer = await asked("GET", "/v2", deadline)
        with _kserve(address):
            server = _json_in(answer)
            name, version = server["name"], server["version"]
            keeps_statistics = "statistics" in server.get("extensions", ())
        statistics: Mapping[str, Any] = {}
        if keeps_statistics:
            statistics = _json_in(await asked("GET", "/v2/models/stats", deadline))
        return ServerInfo(name, version, model_statistics(statistics))

    async def share(region: SharedRegion, deadline: Deadline) -> None:
        body = json.dumps({"key": region.key, "offset": 0, "byte_size": region.byte_size}).encode()
        await asked("POST", f"{_region_path(region.name)}/register", deadline, body)

    async def unshare(name: str, deadline: Deadline) -> None:
        await asked("POST", f"{_region_path(name)}/unregister", deadline)

    return Connection(infer, describe, close, inspect, share, unshare)


@contextlib.contextmanager
def _kserve(address: Address) -> Iterator[None]:
    """Inside, an answer is read; one that is no KServe v2, such as a web page, is an error."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServerUnavailable(str(address), "an answer that is not KServe v2") from error


def model_path(model: Model) -> str:
    """Where an HTTP server has what is about a model."""
    version = f"/versions/{quote(model.version)}" if model.version else ""
    return f"/v2/models/{quote(model.name)}{version}"


def _region_path(name: str) -> str:
    return f"/v2/systemsharedmemory/region/{quote(name)}"


def _json_in(answer: Answer) -> Any:
    return json.loads(answer.body)


def error_text(body: bytes) -> str:
    """What Triton wrote into `{"error": ...}`, or the body itself when it is something else."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
