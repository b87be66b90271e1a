"""The gRPC client on connections that die without a word, and on several servers at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bodypose_client.async_client import AsyncPoseClient
from bodypose_client.errors import ServerTimeout, ServerUnavailable
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import NO_RETRIES
from tests.greys import grey_png

pytestmark = pytest.mark.triton


class Forgetful:
    """A balancer that can forget its connections: it keeps them open and forwards no more."""

    def __init__(self, server: str) -> None:
        self._server = server.rsplit(":", 1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._forgotten = 0
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def netloc(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def forget(self) -> None:
        self._forgotten = self.connections

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((self._server[0], int(self._server[1])))
                self._sockets += [near, far]
                self.connections += 1
                for pair in ((near, far), (far, near)):
                    arguments = (*pair, self.connections)
                    threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if number > self._forgotten:
                    target.sendall(data)
            target.close()


@pytest.fixture
def balancer(server) -> Iterator[Forgetful]:
    balancer = Forgetful(server.grpc_url)
    yield balancer
    balancer.close()


def test_a_forgotten_connection_costs_one_deadline_and_no_more(balancer):
    with PoseClient(f"grpc://{balancer.netloc}", timeout_s=3) as client:
        client.infer(grey_png(9))
        assert balancer.connections == 1
        balancer.forget()

        with pytest.raises(ServerTimeout):
            client.infer(grey_png(9))
        started = time.monotonic()
        for _ in range(3):
            client.infer(grey_png(9))

    assert time.monotonic() - started < 2
    assert balancer.connections == 2


def test_a_forgotten_connection_is_left_by_asyncio_too(balancer):
    async def ask() -> None:
        async with AsyncPoseClient(f"grpc://{balancer.netloc}", timeout_s=3) as client:
            await client.infer(grey_png(9))
            balancer.forget()
            with pytest.raises(ServerTimeout):
                await client.infer(grey_png(9))
            await client.infer(grey_png(9))

    asyncio.run(ask())

    assert balancer.connections == 2


def test_calls_that_wait_longer_do_not_lose_their_connection_to_one_that_is_late(balancer):
    """A late call replaces the connection; whoever still waits on the old one gets its answer."""
    with PoseClient(f"grpc://{balancer.netloc}", timeout_s=30, retries=NO_RETRIES) as client:
        client.infer(grey_png(9))
        with ThreadPoolExecutor(8) as pool:
            patient = [pool.submit(client.infer, grey_png(9)) for _ in range(40)]
            with contextlib.suppress(ServerTimeout):
                client.infer(grey_png(9), timeout_s=0.001)
            assert all(len(each.result()) == 1 for each in patient)


def test_several_servers_are_asked_in_turns(server):
    balancers = [Forgetful(server.grpc_url) for _ in range(3)]
    url = "grpc://" + ",".join(each.netloc for each in balancers)
    with PoseClient(url, timeout_s=10) as client:
        for _ in range(30):
            client.infer(grey_png(9))
        assert [each.connections for each in balancers] == [1, 1, 1]

        balancers[0].close()
        for _ in range(30):
            client.infer(grey_png(9))

    for each in balancers:
        each.close()


def test_a_host_that_nobody_knows_is_named():
    with (
        pytest.raises(ServerUnavailable, match=r"no-such-host\.invalid"),
        PoseClient("grpc://127.0.0.1:1,no-such-host.invalid:2") as client,
    ):
        client.infer(grey_png(9))
