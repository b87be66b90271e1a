"""What can go wrong between a caller and the server, as one tree for both protocols.

PoseError                    (pose_runtime/errors.py)
├── AnnotationError          a COCO annotation or results file is not what it should be
├── FileError                a file cannot be read or written
├── MissingPackage           (pose_runtime/extras.py) a package that the base install leaves out
└── ClientError              base of everything that comes from talking to a server
    ├── ClientClosed         the client is used after `close`
    ├── AddressError         the URL cannot be understood, or does not fit the other options
    ├── ServerUnavailable    nobody answers at the address, or no pose server does
    │   └── WrongProtocol    the other protocol, or the other of TLS and none, answers there
    ├── TlsFailed            the two sides do not agree on an encrypted connection
    ├── AccessDenied         the server wants a token, a header or a certificate
    ├── ServerTimeout        the answer did not come in time
    ├── ModelNotFound        the server does not have the model
    ├── NotAPoseModel        the model does not describe itself as one of ours
    ├── ServerBusy           its queue is full: the same request may succeed later
    ├── RateLimited          something in front of the server allows fewer requests
    ├── SharedMemoryRefused  the server does not read this host's shared memory
    └── RequestRejected      the server does not accept this request, such as a damaged image
"""

from __future__ import annotations

from pathlib import Path

from pose_runtime.errors import PoseError


class AnnotationError(PoseError):
    """A COCO file contradicts itself or the skeleton."""


class FileError(PoseError):
    """The operating system refused a file."""

    def __init__(self, path: Path, expected: str, error: OSError) -> None:
        super().__init__(f"{path}: expected {expected}, got {(error.strerror or str(error))!r}")


class DiskError(PoseError):
    """There is no room, or no permission, to write a file."""


class ClientError(PoseError):
    """Base of what can go wrong between a caller and the server."""


class AddressError(ClientError):
    """A URL that names no server and model."""


class ClientClosed(ClientError):
    """The client was closed before it was asked."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address}: expected an open client, got a closed one; make another")


class ServerUnavailable(ClientError):
    """Nobody answers, or what answers is no pose server."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{address}: expected a pose server, got {reason!r}; start one with `tools serve`"
        )


class WrongProtocol(ServerUnavailable):
    """A server answers, but not over the URL's protocol."""

    def __init__(self, address: str, found: str, url: str) -> None:
        ClientError.__init__(
            self, f"{address}: expected a server of this protocol, got {found}; try {url}"
        )


class TlsFailed(ClientError):
    """One side does not trust the other's certificate, or a certificate file is unusable."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{address}: expected a trusted TLS connection, got {reason!r}; give the server's"
            " authority (`--ca-file`) and, where it wants one, your certificate (`--cert-file`)"
        )


class AccessDenied(ClientError):
    """The server, or a proxy before it, wants a token, a header or a certificate."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{address}: expected access, got {reason!r}; send a token (`--token`) or another"
            " header (`--header`)"
        )


class ServerTimeout(ClientError):
    """No answer within the caller's deadline."""

    def __init__(self, address: str, timeout_s: float) -> None:
        super().__init__(
            f"{address}: expected an answer within {timeout_s:g} s, got none; give it more time"
            " (`--timeout`) or send fewer requests at once (`--in-flight`)"
        )


class ModelNotFound(ClientError):
    """The server is there, the model is not."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{address}: expected a loaded model, got {reason!r}; build and serve one with"
            " `tools build-repo` and `tools serve`"
        )


class NotAPoseModel(ClientError):
    """A model without the pipeline description that `tools build-repo` writes into its config."""


class ServerBusy(ClientError):
    """The server's queue was full."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{address}: expected a place in the queue, got {reason!r}; send fewer requests at once"
            " (`--in-flight`)"
        )


class RateLimited(ClientError):
    """Something in front of the server allows fewer requests; retries would not help."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{address}: expected to be let through, got {reason!r}; send fewer requests"
        )


class SharedMemoryRefused(ClientError):
    """The server forbids shared memory, or is not on this host."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"{address}: expected a server on this host that reads shared memory, got {reason!r};"
            " leave `shared_memory` out: `tools serve` never allows it, another Triton may"
            " (`--allow-client-shm=true` since 26.04, no restricted `shared-memory` API)"
        )


class RequestRejected(ClientError):
    """The server does not accept this request, in its own words; others are not affected."""
