"""A connection opened for an address: gRPC or HTTP, blocking or for asyncio."""

from __future__ import annotations

from collections.abc import Callable

from .access import Access
from .address import Address, Protocol
from .connection import (
    Connection,
)

Connect = Callable[[Address, Access], Connection]


def connect(address: Address, access: Access) -> Connection:
    """A blocking connection over the address's protocol. Nothing is sent yet.

    Raises:
        FileError: a TLS file cannot be read.
        TlsFailed: a TLS file is not what it should be.
    """
    access.check(address)
    match address.protocol:
        case Protocol.GRPC:
            from .grpc import connect_grpc

            return connect_grpc(address, access)
        case Protocol.HTTP:
            from .http import connect_http

            return connect_http(address, access)


def connect_asyncio(address: Address, access: Access) -> Connection:
    """A connection for the running event loop, otherwise as `connect`."""
    access.check(address)
    match address.protocol:
        case Protocol.GRPC:
            from .grpc import connect_grpc_asyncio

            return connect_grpc_asyncio(address, access)
        case Protocol.HTTP:
            from .http_asyncio import connect_http_asyncio

            return connect_http_asyncio(address, access)
