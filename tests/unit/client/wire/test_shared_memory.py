"""Images in shared memory, read by a "server" that is a function of this process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bodypose_client.blocking import as_coroutine
from bodypose_client.errors import RequestRejected, ServerTimeout, SharedMemoryRefused
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.connection import InRegion
from bodypose_client.wire.retries import NO_RETRIES
from bodypose_client.wire.shared_memory import SharedMemory

URL = "grpc://127.0.0.1:8001/bodypose"


class MemoryServer:
    """Knows regions by name and reads requests' inputs from them."""

    def __init__(self, connection, error=None):
        self._inner, self.regions, self.error = connection, {}, error

    @property
    def connection(self):
        return replace(
            self._inner,
            infer=self._infer,
            share=as_coroutine(self._share),
            unshare=as_coroutine(lambda name, deadline: self.regions.pop(name)),
        )

    def _share(self, region, deadline):
        self.regions[region.name] = region

    async def _infer(self, request):
        if self.error:
            raise self.error
        ((name, tensor),) = request.inputs.items()
        assert isinstance(tensor, InRegion)
        if tensor.region not in self.regions:
            raise RequestRejected(f"Unable to find shared memory region: '{tensor.region}'")
        region = self.regions[tensor.region]
        data = Path("/dev/shm", region.key[1:]).read_bytes()[: tensor.byte_size]
        array = np.empty(tensor.shape, np.object_)
        array[0, 0] = data[4:]
        assert int.from_bytes(data[:4], "little") == len(data) - 4
        return await self._inner.infer(replace(request, inputs={name: array}))


@pytest.fixture
def server(fake_server, one_person):
    return MemoryServer(fake_server(one_person)(None, None))


@pytest.fixture
def client(server):
    with PoseClient(
        URL,
        connect=lambda *_: server.connection,
        shared_memory=SharedMemory.SYSTEM,
        retries=NO_RETRIES,
    ) as client:
        yield client


def test_an_image_is_read_from_memory(client):
    assert client.infer(np.zeros((20, 30, 3), np.uint8)).keypoints[0, 0].tolist() == [15, 1, 0.5]


def test_regions_are_used_again_and_grow(client, server):
    for side in (10, 20, 400, 30):
        client.infer(np.zeros((side, side, 3), np.uint8))

    (region,) = server.regions.values()
    assert region.byte_size == 2**19


def test_a_server_that_was_started_again_is_told_again(client, server):
    server.regions.clear()

    assert len(client.infer(np.zeros((20, 30, 3), np.uint8))) == 1


def test_a_region_that_the_server_may_still_read_is_not_written(client, server):
    server.error = ServerTimeout("a", 1)
    with pytest.raises(ServerTimeout):
        client.infer(np.zeros((20, 30, 3), np.uint8))
    (abandoned,) = server.regions
    server.error = None

    client.infer(np.zeros((20, 30, 3), np.uint8))

    assert abandoned in server.regions
    assert len(server.regions) == 2


def test_closing_removes_every_region(client, server):
    client.infer(np.zeros((20, 30, 3), np.uint8))
    (region,) = server.regions.values()

    client.close()

    assert not server.regions
    assert not Path("/dev/shm", region.key[1:]).exists()


def test_a_server_that_forbids_it_is_explained(fake_server, one_person):
    def refuse(region, deadline):
        raise RequestRejected("This API is restricted")

    connection = replace(fake_server(one_person)(None, None), share=as_coroutine(refuse))

    with pytest.raises(SharedMemoryRefused, match="leave `shared_memory` out"):
        PoseClient(URL, connect=lambda *_: connection, shared_memory=SharedMemory.SYSTEM)
