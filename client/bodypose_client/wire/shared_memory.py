"""Images that the server reads from this host's memory instead of from the socket.

Only inputs: an image is 100 KB to some MB, the people of one are 4.5 KB.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from enum import StrEnum
from multiprocessing.shared_memory import SharedMemory as SystemMemory

import numpy as np
from numpy.typing import NDArray

from bodypose_client.errors import (
    ClientError,
    RateLimited,
    RequestRejected,
    ServerBusy,
    ServerTimeout,
    ServerUnavailable,
    SharedMemoryRefused,
)

from .address import Address
from .connection import Connection, Inputs, InRegion, Request, SharedRegion, Tensors
from .deadline import Deadline
from .tensor_bytes import wire_bytes, wire_dtype

_SMALLEST_REGION = 2**18
# After a call that timed out the server may still read its region; it is kept for so long.
_QUARANTINE_S = 60.0
_FORGOTTEN = "Unable to find shared memory region"  # the server was started again


class SharedMemory(StrEnum):
    """How an image reaches the server."""

    OFF = "off"  # in the request
    SYSTEM = "system"  # in POSIX shared memory, which server and client must have in common


@dataclass(frozen=True, slots=True, eq=False)
class _Region:
    memory: SystemMemory
    name: str = field(default_factory=lambda: f"bodypose_{secrets.token_hex(8)}")

    @classmethod
    def create(cls, byte_size: int) -> _Region:
        size = max(_SMALLEST_REGION, 1 << (byte_size - 1).bit_length())
        return cls(SystemMemory(create=True, size=size))

    @property
    def shared(self) -> SharedRegion:
        return SharedRegion(self.name, f"/{self.memory.name}", self.memory.size)

    def hold(self, array: NDArray[np.generic], data: bytes) -> InRegion:
        assert self.memory.buf is not None  # until it is closed
        self.memory.buf[: len(data)] = data
        return InRegion(self.name, len(data), wire_dtype(array), array.shape)

    def destroy(self) -> None:
        self.memory.close()
        with contextlib.suppress(FileNotFoundError):
            self.memory.unlink()


class SharedInputs:
    """A transport that puts its requests' only input into shared memory.

    There are as many regions as there were requests at once, each as large as its largest image
    (rounded up to a power of two). `close` removes them.
    """

    def __init__(self, connection: Connection, address: Address) -> None:
        self._connection = connection
        self._address = address
        self._lock = threading.Lock()
        self._idle: list[_Region] = []
        self._abandoned: deque[tuple[float, _Region]] = deque()

    async def check(self, deadline: Deadline) -> None:
        """Check that the server accepts a region.

        Raises:
            SharedMemoryRefused: it does not, and why.
        """
        self._idle.append(await self._create(_SMALLEST_REGION, deadline))

    async def infer(self, request: Request) -> Tensors:
        ((name, array),) = request.inputs.items()
        if isinstance(array, InRegion):
            return await self._connection.infer(request)
        data = wire_bytes(array)
        region = await self._take(len(data), request.deadline)
        try:
            inputs: Inputs = {name: region.hold(array, data)}
            try:
                outputs = await self._connection.infer(replace(request, inputs=inputs))
            except RequestRejected as error:
                if _FORGOTTEN not in str(error):
                    raise
                await self._share(region, request.deadline)
                outputs = await self._connection.infer(replace(request, inputs=inputs))
        except (RateLimited, RequestRejected, ServerBusy):
            self._put_back(region)
            raise
        except BaseException:
            with self._lock:
                self._abandoned.append((time.monotonic(), region))
            raise
        self._put_back(region)
        return outputs

    async def close(self, deadline: Deadline) -> None:
        with self._lock:
            regions = [*self._idle, *(region for _, region in self._abandoned)]
            self._idle.clear()
            self._abandoned.clear()
        for region in regions:
            await self._destroy(region, deadline)

    async def _take(self, byte_size: int, deadline: Deadline) -> _Region:
        with self._lock:
            region = self._idle.pop() if self._idle else None
            old = time.monotonic() - _QUARANTINE_S
            over = self._abandoned and self._abandoned[0][0] < old
            forgotten = self._abandoned.popleft()[1] if over else None
        if forgotten:
            await self._destroy(forgotten, deadline)
        if region and region.memory.size < byte_size:
            await self._destroy(region, deadline)
            region = None
        return region or await self._create(byte_size, deadline)

    def _put_back(self, region: _Region) -> None:
        with self._lock:
            self._idle.append(region)

    async def _create(self, byte_size: int, deadline: Deadline) -> _Region:
        region = _Region.create(byte_size)
        try:
            await self._share(region, deadline)
        except BaseException:
            region.destroy()
            raise
        return region

    async def _share(self, region: _Region, deadline: Deadline) -> None:
        try:
            await self._connection.share(region.shared, deadline)
        except (ServerUnavailable, ServerTimeout):
            raise
        except ClientError as error:
            reason = str(error).split("got ", 1)[-1].split(";")[0].strip("'\"")
            raise SharedMemoryRefused(str(self._address), reason) from error

    async def _destroy(self, region: _Region, deadline: Deadline) -> None:
        with contextlib.suppress(ClientError):  # a server that is gone has forgotten it
            await self._connection.unshare(region.name, deadline)
        region.destroy()
