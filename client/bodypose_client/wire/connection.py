"""The interface between client and protocol: tensors go in by name and come out by name.

Every function of a `Connection` is a coroutine function. A blocking connection's never wait, so
that `blocking.run` can call them; an asyncio one's do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from bodypose_client.errors import (
    AccessDenied,
    ClientError,
    ModelNotFound,
    RateLimited,
    RequestRejected,
    ServerBusy,
    ServerUnavailable,
)

from .address import Address
from .deadline import Deadline

# In the ensemble's config.pbtxt: the `PipelineSpec` as JSON.
PIPELINE_PARAMETER = "pipeline"


class Model(NamedTuple):
    """A model as requests name it; an empty version leaves the choice to the server."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class InRegion:
    """A tensor that waits in a shared memory region, from its first byte on."""

    region: str
    byte_size: int
    dtype: str  # KServe's name
    shape: tuple[int, ...]


Tensors = Mapping[str, NDArray[Any]]
Inputs = Mapping[str, NDArray[Any] | InRegion]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model."""

    model: Model
    inputs: Inputs
    deadline: Deadline
    headers: Mapping[str, str] = field(default_factory=dict)  # besides those of `Access`


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What a server asks a model before it is ready, and counts as if somebody had asked."""

    requests: int = 0
    executions: int = 0


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The server's description of a model."""

    versions: tuple[str, ...]  # loaded, oldest first
    parameters: Mapping[str, str]  # of its config.pbtxt
    warm_up: WarmUp = WarmUp()


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """What one version of a model has done since the server started.

    Counts are without the server's own warm-up once `PoseClient.inspect` has taken it out. Times
    are means, the warm-up included: Triton does not tell them apart.
    """

    name: str
    version: str
    requests: int
    failures: int
    images: int
    executions: int
    queue_ms: float
    compute_ms: float
    request_ms: float
    warm_ups: int = 0  # requests

    def without(self, warm_up: WarmUp) -> ModelStatistics:
        """The same, the server's own requests not counted."""
        return replace(
            self,
            requests=max(0, self.requests - warm_up.requests),
            images=max(0, self.images - warm_up.requests),
            executions=max(0, self.executions - warm_up.executions),
            warm_ups=min(warm_up.requests, self.requests),
        )


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Who serves; `models` is empty when the server keeps no statistics."""

    name: str
    version: str
    models: tuple[ModelStatistics, ...]


class SharedRegion(NamedTuple):
    """A region of system shared memory as the server is told of it."""

    name: str
    key: str
    byte_size: int


async def _nothing(*_: Any) -> None:
    """Closing, or sharing memory with, a server that is a function of a test."""


async def _no_server(_: Deadline) -> ServerInfo:
    return ServerInfo("", "", ())


Transport = Callable[[Request], Coroutine[Any, Any, Tensors]]


@dataclass(frozen=True, slots=True)
class Connection:
    """An open way to one server; a blocking one may be used from any thread.

    Only `infer` is in the hot path, and it is plain KServe v2; `inspect` needs the statistics
    extension, `share` and `unshare` that of system shared memory.
    """

    infer: Transport
    describe: Callable[[Model, Deadline], Coroutine[Any, Any, ModelInfo]]
    close: Callable[[], Coroutine[Any, Any, None]] = _nothing
    inspect: Callable[[Deadline], Coroutine[Any, Any, ServerInfo]] = _no_server
    share: Callable[[SharedRegion, Deadline], Coroutine[Any, Any, None]] = _nothing
    unshare: Callable[[str, Deadline], Coroutine[Any, Any, None]] = _nothing


# What Triton says of a model that it has, but that does not answer: it is being unloaded, or its
# Python process was killed. The status is then that of a wrong request.
_GONE_FOR_NOW = ("has no available versions", "is not healthy")


def server_error(address: Address, code: str, message: str) -> ClientError:
    """One tree for both protocols: the server's error answer as ours.

    Args:
        address: who answered.
        code: gRPC status name or HTTP status number.
        message: the server's words.
    """
    words = _without_triton_prefixes(message)
    if any(sign in words for sign in _GONE_FOR_NOW):
        return ServerUnavailable(str(address), words)
    if code in ("NOT_FOUND", "404"):
        return ModelNotFound(str(address), words)
    if code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "401", "403") or "is restricted" in words:
        return AccessDenied(str(address), words)
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in words:
        return RequestRejected(words)  # of one message, by gRPC: it will never fit
    if code in ("RESOURCE_EXHAUSTED", "429"):
        return RateLimited(str(address), words)
    if code == "CANCELLED":  # not by us: the server was stopped
        return ServerUnavailable(str(address), words)
    if code in ("UNAVAILABLE", "503"):
        busy = ServerBusy if "queue" in words else ServerUnavailable
        return busy(str(address), words)
    if code in ("502", "504"):
        return ServerUnavailable(str(address), f"{code} from a gateway that does not reach it")
    if code in ("301", "302", "307", "308"):
        return ServerUnavailable(
            str(address), f"{code}, a redirect; try the other of http:// and https://"
        )
    if code == "UNIMPLEMENTED":
        return ServerUnavailable(str(address), f"a server without KServe v2: {words}")
    return RequestRejected(words)


def _without_triton_prefixes(message: str) -> str:
    """`in ensemble 'bodypose', [request id: <id_unknown>] words` -> `words`, in one line."""
    words = re.sub(r"in ensemble '[^']*', |\[request id: [^\]]*\] ", "", message)
    return " ".join(words.split()) or "an error without words"
