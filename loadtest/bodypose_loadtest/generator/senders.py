"""Senders: one prebuilt request from a greenlet, and the kind of its outcome.

Import this only in a process that gevent has patched (`locust` does it, `generator.py` does it).
Without `init_gevent`, gRPC would block every other greenlet of the process while it waits: 20
users would take turns and each would report a short latency.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from http.client import HTTPException
from typing import Protocol

import grpc
from geventhttpclient import HTTPClient
from grpc.experimental import gevent as grpc_gevent

from bodypose_client.wire.access import Access
from bodypose_client.wire.address import Address
from bodypose_client.wire.address import Protocol as Wire
from bodypose_client.wire.connection import Model, server_error
from bodypose_client.wire.grpc_channels import open_channel
from bodypose_client.wire.http_messages import error_text, model_path

from .bodies import Body

grpc_gevent.init_gevent()

_INFER = "/inference.GRPCInferenceService/ModelInfer"
_NOBODY = "ServerUnavailable"
_TOO_LATE = "ServerTimeout"


class Sender(Protocol):
    """A connection to one server, for any number of greenlets."""

    def send(self, body: Body) -> str:
        """Send and wait for the whole answer; "" or the kind of error."""
        ...

    def close(self) -> None: ...


def open_sender(address: Address, access: Access, timeout_s: float, connections: int) -> Sender:
    """Nothing is sent yet. `connections` is how many HTTP requests can be in flight at once.

    Raises:
        FileError, TlsFailed: a TLS file is not what it should be.
    """
    if address.protocol is Wire.GRPC:
        return GrpcSender(address, access, timeout_s)
    return HttpSender(address, access, timeout_s, connections)


class GrpcSender:
    """Serialised messages in and out: the generator spends no time on protobuf."""

    def __init__(self, address: Address, access: Access, timeout_s: float) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._metadata = tuple(access.headers.items())
        self._channel = open_channel(grpc, address, access)
        self._infer: Callable[..., bytes] = self._channel.unary_unary(_INFER)

    def send(self, body: Body) -> str:
        try:
            self._infer(body.content, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            return self._kind(error.code().name, error.details() or "")
        return ""

    def _kind(self, code: str, words: str) -> str:
        if code == "DEADLINE_EXCEEDED":
            return _TOO_LATE
        return type(server_error(self._address, code, words)).__name__

    def close(self) -> None:
        """Must be called: a channel that is left to the garbage collector hangs the process."""
        self._channel.close()


class HttpSender:
    """Keep-alive connections, as many as requests in flight."""

    def __init__(
        self, address: Address, access: Access, timeout_s: float, connections: int
    ) -> None:
        self._address, self._headers = address, access.headers
        self._path = f"{model_path(Model(address.model, address.version))}/infer"
        self._client = HTTPClient(
            address.host,
            port=address.port,
            concurrency=connections,
            connection_timeout=timeout_s,
            network_timeout=timeout_s,
            ssl=address.secure,
            ssl_context_factory=lambda **_: access.tls.context(address),
        )

    def send(self, body: Body) -> str:
        try:
            headers = {**self._headers, **body.headers}
            response = self._client.post(self._path, body.content, headers)
            answer = bytes(response.read())
        except TimeoutError:
            return _TOO_LATE
        except (OSError, HTTPException) as error:  # a connection that was dropped is the second
            if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
                raise  # our own files, not the server's doing
            return _NOBODY
        if response.status_code == 200:
            return ""
        words = error_text(answer)
        return type(server_error(self._address, str(response.status_code), words)).__name__

    def close(self) -> None:
        self._client.close()
