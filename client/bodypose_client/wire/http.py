"""Blocking HTTP: the standard library's sockets, one for each request in flight.

tritonclient's own sockets belong to gevent, whose connections must stay in the thread that opened
them.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any

from bodypose_client.blocking import as_coroutine
from bodypose_client.errors import ServerTimeout, ServerUnavailable, TlsFailed

from .access import Access
from .address import Address
from .connection import Connection
from .deadline import Deadline
from .http_messages import Answer, Question, http_connection


def connect_http(address: Address, access: Access) -> Connection:
    """A connection for any number of threads: each request in flight has its own socket."""
    sockets = Sockets.open(address, access)
    return http_connection(address, access, as_coroutine(sockets.ask), as_coroutine(sockets.close))


@dataclass(slots=True)
class Sockets:
    """Kept-alive connections to one server; as many are open as requests are in flight."""

    address: Address
    tls: ssl.SSLContext | None
    _idle: list[HTTPConnection] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, address: Address, access: Access) -> Sockets:
        """No connection yet.

        Raises:
            FileError, TlsFailed: a TLS file is not what it should be.
        """
        return cls(address, access.tls.context(address) if address.secure else None)

    def ask(self, question: Question, deadline: Deadline) -> Answer:
        """One request and its whole answer.

        Raises:
            ClientError: nobody answers, or too late.
        """
        with self._borrowed(deadline) as connection:
            response = _respond(connection, question, deadline)
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextlib.contextmanager
    def _borrowed(self, deadline: Deadline) -> Iterator[HTTPConnection]:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._opened()
        try:
            yield connection
        except BaseException as error:
            connection.close()
            ours = _our_error(self.address, deadline, error)
            if ours is error:
                raise
            raise ours from error
        with self._lock:
            self._idle.append(connection)

    def _opened(self) -> HTTPConnection:
        if self.tls:
            return HTTPSConnection(self.address.host, self.address.port, context=self.tls)
        return HTTPConnection(self.address.host, self.address.port)


def _respond(connection: HTTPConnection, question: Question, deadline: Deadline) -> HTTPResponse:
    was_open = connection.sock is not None
    try:
        return _respond_once(connection, question, deadline)
    except (ConnectionError, HTTPException):
        if not was_open:
            raise
    # The server closed a connection that had been idle: that says nothing about this request.
    connection.close()
    return _respond_once(connection, question, deadline)


def _respond_once(
    connection: HTTPConnection, question: Question, deadline: Deadline
) -> HTTPResponse:
    connection.timeout = deadline.left_s()
    if connection.sock is None:
        connection.connect()
    sock: socket.socket = connection.sock  # connected
    sock.settimeout(deadline.left_s())
    connection.response_class = partial(_timed_response, deadline)  # type: ignore[assignment]
    connection.request(question.method, question.path, question.body, dict(question.headers))
    return connection.getresponse()


def _timed_response(deadline: Deadline, sock: socket.socket, **options: Any) -> HTTPResponse:
    """A response whose reads together end at the deadline; a socket's own timeout is for each."""
    response = HTTPResponse(sock, **options)
    response.fp = io.BufferedReader(_TimedReads(response.fp.detach(), sock, deadline))
    return response


class _TimedReads(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left_s())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _our_error(address: Address, deadline: Deadline, error: BaseException) -> BaseException:
    """The error in our tree; itself, if it is not about the connection."""
    match error:
        case TimeoutError():
            return ServerTimeout(str(address), deadline.timeout_s)
        case ssl.SSLError():
            return TlsFailed(str(address), getattr(error, "verify_message", "") or error.reason)
        case HTTPException():
            reason = f"an answer that is not HTTP ({type(error).__name__})"
            return ServerUnavailable(str(address), reason)
        case OSError():
            return ServerUnavailable(str(address), error.strerror or str(error))
        case _:
            return error
