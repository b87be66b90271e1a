"""Owns KServe v2 over gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from .address import Address
from .errors import ServerTimeout, ServerUnavailable
from .transport import Connection, Model, ModelInfo, Tensors, server_error

_LARGEST_MESSAGE = 2**31 - 1
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# How gRPC itself, not the server, says that there is nobody to talk to.
_NOBODY_THERE = ("failed to connect", "errors resolving", "DNS resolution failed", "Socket closed")


def connect_grpc(address: Address, timeout_s: float) -> Connection:
    """A connection for any number of threads: gRPC multiplexes them over one channel."""
    client = InferenceServerClient(address.netloc, channel_args=_channel_args(address))

    def infer(model: Model, inputs: Tensors) -> Tensors:
        tensors = [_tensor(name, array) for name, array in inputs.items()]
        with _our_errors(address, timeout_s):
            result = client.infer(model.name, tensors, model.version, client_timeout=timeout_s)
        names = [output.name for output in result.get_response().outputs]
        return {name: result.as_numpy(name) for name in names}

    def describe(model: Model) -> ModelInfo:
        with _our_errors(address, timeout_s):
            metadata = client.get_model_metadata(*model, client_timeout=timeout_s)
            config = client.get_model_config(*model, client_timeout=timeout_s).config
        parameters = {key: value.string_value for key, value in config.parameters.items()}
        return ModelInfo(tuple(metadata.versions), parameters)

    return Connection(infer, describe, client.close)


def _channel_args(address: Address) -> list[tuple[str, int]]:
    args = [
        ("grpc.max_send_message_length", _LARGEST_MESSAGE),
        ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
    ]
    if address.host in _LOOPBACK:
        args.append(("grpc.enable_http_proxy", 0))  # a proxy cannot reach our own loopback
    return args


def _tensor(name: str, array: NDArray[Any]) -> Any:
    tensor = InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
    return tensor.set_data_from_numpy(array)


@contextlib.contextmanager
def _our_errors(address: Address, timeout_s: float) -> Iterator[None]:
    try:
        yield
    except InferenceServerException as error:
        code = (error.status() or "").removeprefix("StatusCode.")
        message = error.message() or ""
        if code == "DEADLINE_EXCEEDED":
            raise ServerTimeout(str(address), timeout_s) from error
        if code == "UNAVAILABLE" and any(words in message for words in _NOBODY_THERE):
            reason = message.rsplit(": ", 1)[-1].rstrip("]")
            raise ServerUnavailable(str(address), reason) from error
        raise server_error(address, code, message) from error
