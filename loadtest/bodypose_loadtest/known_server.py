"""A server with known answers: a fixed service time, so many at once, in order.

It implements enough of KServe v2 over gRPC and HTTP to be load tested. What it must answer to any
arrivals follows from a queue that a page of code can compute, so it tells whether a load generator
tells the truth; with no service time it tells how fast the generator is.

    python -m bodypose_loadtest.known_server --service-ms 40 --capacity 2
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import heapq
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

HOST = "127.0.0.1"
_SERVICE = "inference.GRPCInferenceService"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the server does; times in seconds."""

    service_s: float
    capacity: int
    error_every: int = 0  # every n-th answer is an error; 0: none
    stall_at_s: float = 0.0  # after the first request
    stall_s: float = 0.0  # nothing is served for so long


@dataclass(slots=True)
class Queue:
    """First come, first served by `capacity` equal servers; says when each request is done.

    Departures are computed from arrivals, not slept through one after the other, so that a late
    wake-up delays one answer and not the whole queue.
    """

    behaviour: Behaviour
    first_s: float | None = None
    free_at: list[float] = field(default_factory=list)
    count: int = 0

    def done_at(self, arrival_s: float) -> tuple[float, bool]:
        """When a request that arrives now is done, and whether it succeeds."""
        behaviour = self.behaviour
        if self.first_s is None:
            self.first_s = arrival_s
            self.free_at = [arrival_s] * behaviour.capacity
        done = self._after_stall(max(arrival_s, self.free_at[0])) + behaviour.service_s
        heapq.heapreplace(self.free_at, done)
        self.count += 1
        return done, not (behaviour.error_every and self.count % behaviour.error_every == 0)

    def _after_stall(self, start_s: float) -> float:
        assert self.first_s is not None
        begin = self.first_s + self.behaviour.stall_at_s
        end = begin + self.behaviour.stall_s
        # What would still be in service when the stall begins is served again after it.
        return end if begin - self.behaviour.service_s < start_s < end else start_s


class KnownServer:
    """Both protocols of one queue."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._queue = Queue(behaviour)
        self._instant = behaviour.service_s == 0
        self._grpc_answer = _grpc_answer()
        self._http_answer = _http_response(200, _HTTP_ANSWER)
        self._http_error = _http_response(400, {"error": "injected"})

    async def serve(self) -> tuple[int, int]:
        """Start; the ports of gRPC and HTTP."""
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        server.add_generic_rpc_handlers((self._grpc_handlers(),))
        grpc_port = server.add_insecure_port(f"{HOST}:0")
        await server.start()
        self._grpc = server
        http = await asyncio.start_server(self._talk_http, HOST, 0)
        return grpc_port, http.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        await self._grpc.stop(None)

    async def _answer(self) -> bool:
        if self._instant:
            return True
        now = time.monotonic()
        done, success = self._queue.done_at(now)
        await asyncio.sleep(done - now)
        return success

    def _grpc_handlers(self) -> Any:
        async def infer(_: bytes, context: Any) -> bytes:
            if not await self._answer():
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "injected")
            return self._grpc_answer

        async def metadata(_: bytes, __: Any) -> bytes:
            answer = service_pb2.ServerMetadataResponse(name="known", version="1")
            return answer.SerializeToString()

        handlers = {"ModelInfer": infer, "ServerMetadata": metadata}
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {name: grpc.unary_unary_rpc_method_handler(call) for name, call in handlers.items()},
        )

    async def _talk_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if length := _content_length(head):
                    await reader.readexactly(length)
                if not head.startswith(b"POST"):
                    writer.write(_http_response(200, {"name": "known", "version": "1"}))
                elif await self._answer():
                    writer.write(self._http_answer)
                else:
                    writer.write(self._http_error)
                await writer.drain()
        writer.close()


_OUTPUTS = (("keypoints", "FP32", [1, 20, 18, 3]), ("scores", "FP32", [1, 20]))
_HTTP_ANSWER = {"outputs": [{"name": "num_people", "datatype": "INT32", "shape": [1, 1]}]}


def _grpc_answer() -> bytes:
    answer = service_pb2.ModelInferResponse(model_name="bodypose", model_version="1")
    for name, datatype, shape in (*_OUTPUTS, ("num_people", "INT32", [1, 1])):
        answer.outputs.add(name=name, datatype=datatype, shape=shape)
        size = 4
        for length in shape:
            size *= length
        answer.raw_output_contents.append(bytes(size))
    return answer.SerializeToString()


def _http_response(status: int, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


async def _serve(behaviour: Behaviour) -> None:
    server = KnownServer(behaviour)
    grpc_port, http_port = await server.serve()
    sys.stdout.write(json.dumps({"grpc": grpc_port, "http": http_port}) + "\n")
    sys.stdout.flush()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service-ms", type=float, default=0.0)
    parser.add_argument("--capacity", type=int, default=1)
    parser.add_argument("--error-every", type=int, default=0)
    parser.add_argument("--stall-at-s", type=float, default=0.0)
    parser.add_argument("--stall-s", type=float, default=0.0)
    options = vars(parser.parse_args())
    behaviour = Behaviour(options.pop("service_ms") / 1000, **options)
    asyncio.run(_serve(behaviour))


if __name__ == "__main__":
    main()
