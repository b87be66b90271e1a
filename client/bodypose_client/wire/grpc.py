"""KServe v2 over gRPC, blocking and for asyncio: one stub, whose answers are awaited or not.

The stub and messages are tritonclient's; its client class is not used, since it copies every
request twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import grpc
import numpy as np
from google.protobuf.json_format import MessageToDict
from numpy.typing import NDArray
from tritonclient.grpc import InferResult, service_pb2

from bodypose_client.blocking import as_coroutine
from bodypose_client.errors import ClientError, ServerTimeout, ServerUnavailable, TlsFailed

from .access import Access
from .address import Address
from .connection import (
    Connection,
    InRegion,
    Model,
    ModelInfo,
    Request,
    ServerInfo,
    SharedRegion,
    Tensors,
    server_error,
)
from .deadline import Deadline
from .grpc_channels import Channels
from .statistics import model_statistics, warm_up_in
from .tensor_bytes import wire_bytes, wire_dtype

# How gRPC itself, not the server, says that there is nobody to talk to.
_NOBODY_THERE = ("failed to connect", "errors resolving", "dns resolution failed", "socket closed")
# How it says that whoever answered has gone meanwhile, with the status of a defect.
_CUT_OFF = ("RST_STREAM", "Stream removed", "Connection reset")
_TLS_WORDS = ("handshake failed", "CERTIFICATE_VERIFY_FAILED", "TSI_PROTOCOL_FAILURE")

# One method of the stub, its message, and how long it may take.
Ask = Callable[[str, Any, Deadline, Mapping[str, str]], Coroutine[Any, Any, Any]]


def connect_grpc(address: Address, access: Access) -> Connection:
    """A connection for any number of threads: gRPC multiplexes them over one channel."""
    channels = Channels(grpc, address, access)

    def ask(method: str, message: Any, deadline: Deadline, headers: Mapping[str, str]) -> Any:
        over: list[Any] = []
        try:
            with channels.calling() as (used, over):
                return getattr(used.stub, method)(
                    message, timeout=deadline.left_s(), metadata=tuple(headers.items())
                )
        finally:
            for channel in over:
                channel.close()

    def close() -> None:
        channels.channel.close()

    return _connection(address, access, as_coroutine(ask), as_coroutine(close))


def connect_grpc_asyncio(address: Address, access: Access) -> Connection:
    """A connection for the running event loop."""
    from grpc import aio

    channels = Channels(aio, address, access)

    async def ask(method: str, message: Any, deadline: Deadline, headers: Mapping[str, str]) -> Any:
        over: list[Any] = []
        try:
            with channels.calling() as (used, over):
                return await getattr(used.stub, method)(
                    message, timeout=deadline.left_s(), metadata=tuple(headers.items())
                )
        finally:
            for channel in over:
                await channel.close()

    async def close() -> None:
        await channels.channel.close()

    return _connection(address, access, ask, close)


def _connection(
    address: Address, access: Access, ask: Ask, close: Callable[[], Coroutine[Any, Any, None]]
) -> Connection:
    async def asked(
        method: str, message: Any, deadline: Deadline, headers: Mapping[str, str] | None = None
    ) -> Any:
        with our_errors(address, deadline):
            return await ask(method, message, deadline, {**access.headers, **(headers or {})})

    async def infer(request: Request) -> Tensors:
        with our_errors(address, request.deadline):
            message = _infer_message(request)
        result = InferResult(await asked("ModelInfer", message, request.deadline, request.headers))
        names = [output.name for output in result.get_response().outputs]
        return {name: result.as_numpy(name) for name in names}

    async def describe(model: Model, deadline: Deadline) -> ModelInfo:
        named = {"name": model.name, "version": model.version}
        metadata = await asked("ModelMetadata", service_pb2.ModelMetadataRequest(**named), deadline)
        answer = await asked("ModelConfig", service_pb2.ModelConfigRequest(**named), deadline)
        parameters = {key: value.string_value for key, value in answer.config.parameters.items()}
        config = MessageToDict(answer.config, preserving_proto_field_name=True)
        return ModelInfo(tuple(metadata.versions), parameters, warm_up_in(config))

    async def inspect(deadline: Deadline) -> ServerInfo:
        server = await asked("ServerMetadata", service_pb2.ServerMetadataRequest(), deadline)
        statistics: Mapping[str, Any] = {}
        if "statistics" in server.extensions:
            message = service_pb2.ModelStatisticsRequest()
            answer = await asked("ModelStatistics", message, deadline)
            statistics = MessageToDict(answer, preserving_proto_field_name=True)
        return ServerInfo(server.name, server.version, model_statistics(statistics))

    async def share(region: SharedRegion, deadline: Deadline) -> None:
        message = service_pb2.SystemSharedMemoryRegisterRequest(**region._asdict())
        await asked("SystemSharedMemoryRegister", message, deadline)

    async def unshare(name: str, deadline: Deadline) -> None:
        message = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        await asked("SystemSharedMemoryUnregister", message, deadline)

    return Connection(infer, describe, close, inspect, share, unshare)


def _infer_message(request: Request) -> Any:
    message = service_pb2.ModelInferRequest(
        model_name=request.model.name, model_version=request.model.version
    )
    message.parameters["timeout"].int64_param = request.deadline.left_us()
    for name, tensor in request.inputs.items():
        if isinstance(tensor, InRegion):
            described = message.inputs.add(name=name, datatype=tensor.dtype, shape=tensor.shape)
            described.parameters["shared_memory_region"].string_param = tensor.region
            described.parameters["shared_memory_byte_size"].int64_param = tensor.byte_size
        else:
            _add_array(message, name, tensor)
    return message


def _add_array(message: Any, name: str, array: NDArray[np.generic]) -> None:
    message.inputs.add(name=name, datatype=wire_dtype(array), shape=array.shape)
    message.raw_input_contents.append(wire_bytes(array))


@contextlib.contextmanager
def our_errors(address: Address, deadline: Deadline) -> Iterator[None]:
    """Inside, what goes wrong with a call is an error of our tree."""
    try:
        yield
    except TimeoutError as error:
        raise ServerTimeout(str(address), deadline.timeout_s) from error
    except grpc.RpcError as error:
        raise _our_error(address, deadline, error.code().name, error.details() or "") from error


def _our_error(address: Address, deadline: Deadline, code: str, message: str) -> ClientError:
    if code == "DEADLINE_EXCEEDED":
        return ServerTimeout(str(address), deadline.timeout_s)
    if code == "UNAVAILABLE" and address.secure and any(w in message for w in _TLS_WORDS):
        return TlsFailed(str(address), message.rsplit("OPENSSL_internal:", 1)[-1].split(":")[0])
    if code == "UNAVAILABLE" and any(words in message.lower() for words in _NOBODY_THERE):
        return ServerUnavailable(str(address), message.rsplit(": ", 1)[-1].rstrip("]"))
    if code in ("INTERNAL", "UNKNOWN") and any(words in message for words in _CUT_OFF):
        return ServerUnavailable(str(address), message)
    return server_error(address, code, message)
