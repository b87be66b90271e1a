"""What listens at an address, when it is not what was asked for: the other protocol, or no TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl

from bodypose_client.errors import ClientError, ServerUnavailable, TlsFailed, WrongProtocol

from .address import Address, Protocol

_TIMEOUT_S = 1.0
_QUESTION = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_NAMES = {Protocol.GRPC: "gRPC", Protocol.HTTP: "HTTP"}
_SETTINGS_FRAME = 4  # RFC 9113, 6.5: the type, byte 3, of the first frame that HTTP/2 sends


def explained(error: ClientError, address: Address) -> ClientError:
    """`error`, or `WrongProtocol` with the URL to try when something else listens there.

    Args:
        error: what came of connecting.
        address: where; it is asked once more, for at most a few seconds.
    """
    if not isinstance(error, ServerUnavailable | TlsFailed):
        return error
    try:
        answer = _plain_answer(address)
    except OSError:  # nobody
        return error
    if _speaks_tls(address):
        protocol, encrypted, found = address.protocol, True, "an encrypted one (TLS)"
    else:
        protocol, encrypted = _protocol_of(answer) or address.protocol, False
        found = f"one of plain {_NAMES[protocol]}"
    if (protocol, encrypted) == (address.protocol, address.secure):
        return error
    scheme = f"{protocol}s" if encrypted else protocol.value
    return WrongProtocol(str(address), found, f"{scheme}://{address.path}")


def _plain_answer(address: Address) -> bytes:
    """The first bytes that come back to plain HTTP; empty when the other side waits or hangs up."""
    with _connected(address) as sock, contextlib.suppress(TimeoutError, ConnectionError):
        sock.sendall(_QUESTION)
        return sock.recv(64)
    return b""


def _connected(address: Address) -> socket.socket:
    return socket.create_connection((address.host, address.port), _TIMEOUT_S)


def _speaks_tls(address: Address) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing secret is sent
    context.set_alpn_protocols(["h2", "http/1.1"])
    with contextlib.suppress(OSError), _connected(address) as sock:
        context.wrap_socket(sock, server_hostname=address.host).close()
        return True
    return False


def _protocol_of(answer: bytes) -> Protocol | None:
    if answer.startswith(b"HTTP/1."):
        return Protocol.HTTP
    if len(answer) > 3 and answer[3] == _SETTINGS_FRAME:
        return Protocol.GRPC
    return None
