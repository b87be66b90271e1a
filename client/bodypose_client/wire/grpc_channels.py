"""gRPC channels to one address: balanced over its servers, and replaced when a connection is dead.

A NAT or a balancer may forget a connection without a word. Nothing comes back then, and gRPC keeps
it for minutes (grpc-go issues 3206 and 7542).
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from tritonclient.grpc import service_pb2_grpc

from bodypose_client.errors import AddressError, ServerUnavailable

from .access import Access
from .address import Address

_LARGEST_MESSAGE = 2**31 - 1
_ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


@dataclass(slots=True)
class Channel:
    """One gRPC channel, with what is known of it."""

    stub: Any
    channel: Any
    in_flight: int = 0
    answered_at: float = field(default_factory=time.monotonic)
    is_replaced: bool = False


class Channels:
    """The channel in use, and replaced ones until their last call has ended.

    Args:
        library: `grpc` or `grpc.aio`.
        address: of the servers.
        access: TLS files.
    """

    def __init__(self, library: Any, address: Address, access: Access) -> None:
        self._library, self._address, self._access = library, address, access
        self._lock = threading.Lock()
        self._current = self._opened()

    @property
    def channel(self) -> Any:
        return self._current.channel

    @contextlib.contextmanager
    def calling(self) -> Iterator[tuple[Channel, list[Any]]]:
        """A channel for one call, and the channels that the caller closes after it.

        A call that ran into its deadline replaces the channel, unless an answer to another call
        has come meanwhile: then the connection lives, and the server is slow.
        """
        with self._lock:
            used = self._current
            used.in_flight += 1
        started, over = time.monotonic(), list[Any]()
        is_late = False
        try:
            yield used, over
            used.answered_at = time.monotonic()
        except grpc.RpcError as error:
            is_late = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if not is_late:
                used.answered_at = time.monotonic()
            raise
        finally:
            with self._lock:
                used.in_flight -= 1
                if is_late and used.answered_at <= started and not used.is_replaced:
                    used.is_replaced = True
                    self._current = self._opened()
                if used.is_replaced and not used.in_flight:
                    over.append(used.channel)

    def _opened(self) -> Channel:
        channel = open_channel(self._library, self._address, self._access)
        return Channel(service_pb2_grpc.GRPCInferenceServiceStub(channel), channel)


def open_channel(library: Any, address: Address, access: Access) -> Any:
    """A channel of its own, with no connection yet.

    Args:
        library: `grpc` or `grpc.aio`.
        address: of the servers.
        access: its TLS files count, its headers belong to each call.

    Raises:
        FileError: a TLS file cannot be read.
        ServerUnavailable: one of several hosts' names is not known.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
        ("grpc.service_config", _ROUND_ROBIN),
        # Else a new channel gets the old one's connection.
        ("grpc.use_local_subchannel_pool", 1),
        # A server that is restarted is back within seconds; the default grows to 2 minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if address.is_loopback:
        options.append(("grpc.enable_http_proxy", 0))  # a proxy cannot reach our own loopback
    target = address.netloc
    if address.others:
        target = _target(address)
        options.append(("grpc.default_authority", address.netloc))
    if not address.secure:
        return library.insecure_channel(target, options=options)
    ca, cert, key = access.tls.read()
    credentials = grpc.ssl_channel_credentials(ca, key, cert)
    return library.secure_channel(target, credentials, options=options)


def _target(address: Address) -> str:
    """Several servers as gRPC names them, by address: `ipv4:10.0.0.1:80,10.0.0.2:80`.

    Raises:
        ServerUnavailable: a host's name is not known.
        AddressError: one has only IPv4, another only IPv6.
    """
    servers = [(address.host, address.port), *address.others]
    for scheme, family in (("ipv4", socket.AF_INET), ("ipv6", socket.AF_INET6)):
        with contextlib.suppress(socket.gaierror):
            found = [socket.getaddrinfo(*server, family)[0][4][0] for server in servers]
            hosts = [f"[{host}]" if family == socket.AF_INET6 else host for host in found]
            ports = [port for _, port in servers]
            return f"{scheme}:" + ",".join(
                f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)
            )
    for host, port in servers:
        try:
            socket.getaddrinfo(host, port)
        except socket.gaierror as error:
            raise ServerUnavailable(str(address), f"{host}: {error.strerror}") from error
    raise AddressError(f"{address}: expected hosts of one kind, got some IPv4 and some IPv6")
