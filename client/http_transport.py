"""Owns KServe v2 over HTTP, with its binary tensor extension.

tritonclient writes and reads the bodies. The sockets are the standard library's: tritonclient's own
belong to gevent, whose connections must stay in the thread that opened them.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote

from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import np_to_triton_dtype

from .address import Address
from .errors import ServerTimeout, ServerUnavailable
from .transport import Connection, Model, ModelInfo, Tensors, server_error

_HEADER_LENGTH = "Inference-Header-Content-Length"


def connect_http(address: Address, timeout_s: float) -> Connection:
    """A connection for any number of threads: each request in flight has its own socket."""
    sockets = _Sockets(address, timeout_s)

    def infer(model: Model, inputs: Tensors) -> Tensors:
        tensors = [_tensor(name, array) for name, array in inputs.items()]
        body, json_size = InferenceServerClient.generate_request_body(tensors)
        headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(json_size)}
        answer = sockets.ask("POST", f"{_path(model)}/infer", body, headers)
        result = InferenceServerClient.parse_response_body(
            answer.body, header_length=answer.headers.get(_HEADER_LENGTH)
        )
        names = [output["name"] for output in result.get_response()["outputs"]]
        return {name: result.as_numpy(name) for name in names}

    def describe(model: Model) -> ModelInfo:
        metadata = json.loads(sockets.ask("GET", _path(model)).body)
        config = json.loads(sockets.ask("GET", f"{_path(model)}/config").body)
        parameters = {
            key: value["string_value"] for key, value in config.get("parameters", {}).items()
        }
        return ModelInfo(tuple(metadata["versions"]), parameters)

    return Connection(infer, describe, sockets.close)


def _path(model: Model) -> str:
    version = f"/versions/{quote(model.version)}" if model.version else ""
    return f"/v2/models/{quote(model.name)}{version}"


def _tensor(name: str, array: NDArray[Any]) -> Any:
    tensor = InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    return tensor.set_data_from_numpy(array)


@dataclass(frozen=True, slots=True)
class _Answer:
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class _Sockets:
    """Kept-alive connections to one server; as many are open as requests are in flight."""

    address: Address
    timeout_s: float
    _idle: list[HTTPConnection] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> _Answer:
        """One request and its whole answer.

        Raises:
            ClientError: nobody answers, too late, or with an error status.
        """
        with self._borrowed() as connection:
            response = self._respond(connection, method, path, body, headers or {})
            answer = _Answer(dict(response.getheaders()), response.read())
        if response.status != 200:
            raise server_error(self.address, str(response.status), _error_text(answer.body))
        return answer

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _respond(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
    ) -> HTTPResponse:
        was_open = connection.sock is not None
        try:
            connection.request(method, path, body, dict(headers))
            return connection.getresponse()
        except (ConnectionError, HTTPException):
            if not was_open:
                raise
        # The server closed a connection that had been idle: that says nothing about this request.
        connection.close()
        connection.request(method, path, body, dict(headers))
        return connection.getresponse()

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[HTTPConnection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = HTTPConnection(
                self.address.host, self.address.port, timeout=self.timeout_s
            )
        try:
            yield connection
        except TimeoutError as error:
            connection.close()
            raise ServerTimeout(str(self.address), self.timeout_s) from error
        except HTTPException as error:
            connection.close()
            reason = f"an answer that is not HTTP ({type(error).__name__})"
            raise ServerUnavailable(str(self.address), reason) from error
        except OSError as error:
            connection.close()
            raise ServerUnavailable(str(self.address), error.strerror or str(error)) from error
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._idle.append(connection)


def _error_text(body: bytes) -> str:
    """What Triton wrote into `{"error": ...}`, or the body itself when it is something else."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
