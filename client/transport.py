"""Owns the seam between the client and the wire: tensors go in by name and come out by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from .address import Address, Protocol
from .errors import ClientError, ModelNotFound, RequestRejected, ServerBusy, ServerUnavailable

# In the ensemble's config.pbtxt: the `PipelineSpec` as JSON.
PIPELINE_PARAMETER = "pipeline"


class Model(NamedTuple):
    """A model as requests name it; an empty version leaves the choice to the server."""

    name: str
    version: str = ""


Tensors = Mapping[str, NDArray[Any]]
Transport = Callable[[Model, Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the server says about a model."""

    versions: tuple[str, ...]  # loaded, oldest first
    parameters: Mapping[str, str]  # of its config.pbtxt


@dataclass(frozen=True, slots=True)
class Connection:
    """An open way to one server. All three functions may be called from any thread.

    Only `infer` is in the hot path, and it is plain KServe v2.
    """

    infer: Transport
    describe: Callable[[Model], ModelInfo]
    close: Callable[[], None] = lambda: None


Connect = Callable[[Address, float], Connection]


def connect(address: Address, timeout_s: float) -> Connection:
    """A connection over the address's protocol. Nothing is sent yet.

    Args:
        address: where the server is.
        timeout_s: longest wait for one answer.
    """
    match address.protocol:
        case Protocol.GRPC:
            from .grpc_transport import connect_grpc

            return connect_grpc(address, timeout_s)
        case Protocol.HTTP:
            from .http_transport import connect_http

            return connect_http(address, timeout_s)


def server_error(address: Address, code: str, message: str) -> ClientError:
    """One tree for both protocols: the server's error answer as ours.

    Args:
        address: who answered.
        code: gRPC status name or HTTP status number.
        message: the server's words.
    """
    words = _without_triton_prefixes(message)
    if code in ("NOT_FOUND", "404") or "has no available versions" in words:
        return ModelNotFound(str(address), words)
    if code in ("UNAVAILABLE", "503", "RESOURCE_EXHAUSTED", "429"):
        if "queue" in words or code in ("RESOURCE_EXHAUSTED", "429"):
            return ServerBusy(str(address), words)
        return ServerUnavailable(str(address), words)
    if code == "UNIMPLEMENTED":
        return ServerUnavailable(str(address), f"a server without KServe v2: {words}")
    return RequestRejected(words)


def _without_triton_prefixes(message: str) -> str:
    """`in ensemble 'bodypose', [request id: <id_unknown>] words` -> `words`, in one line."""
    words = re.sub(r"in ensemble '[^']*', |\[request id: [^\]]*\] ", "", message)
    return " ".join(words.split()) or "an error without words"
