"""The asyncio client against servers that are functions; `asyncio.run` needs no plugin."""

import asyncio
import itertools

import numpy as np
import pytest

from bodypose_client.async_client import AsyncPoseClient
from bodypose_client.errors import FileError, RequestRejected
from bodypose_client.in_flight import map_in_order_asyncio
from bodypose_client.pose_client import PoseClient
from pose_runtime.errors import ContractError

URL = "grpc://127.0.0.1:8001/bodypose"


def photo(width):
    return np.zeros((8, width, 3), np.uint8)


def test_it_finds_whom_the_blocking_client_finds(fake_server, one_person, write_image):
    path = write_image("photo.jpg")
    connect = fake_server(one_person)

    async def ask():
        async with AsyncPoseClient(URL, connect=connect) as client:
            assert (client.spec, client.model) == (blocking.spec, blocking.model)
            assert client.skeleton == blocking.skeleton
            return [await client.infer(image) for image in (path, path.read_bytes(), photo(6))]

    with PoseClient(URL, connect=connect) as blocking:
        expected = [blocking.infer(image) for image in (path, path.read_bytes(), photo(6))]
    for found, same in zip(asyncio.run(ask()), expected, strict=True):
        assert np.array_equal(found.keypoints, same.keypoints)
        assert found.image == same.image


def test_a_stream_keeps_order(fake_server, one_person):
    async def endless():
        for width in itertools.count(2, 2):
            yield photo(width)

    async def ask(images, count):
        found = []
        async with AsyncPoseClient(URL, connect=fake_server(one_person)) as client:
            stream = client.infer_stream(images, in_flight=3)
            async for poses in stream:
                found.append(float(poses.keypoints[0, 0, 0]))
                if len(found) == count:
                    await stream.aclose()
        return found

    assert asyncio.run(ask([photo(width) for width in (2, 4, 6)], 9)) == [1, 2, 3]
    assert asyncio.run(ask(endless(), 5)) == [1, 2, 3, 4, 5]


def test_no_more_than_in_flight_at_a_time_and_bounded_reading():
    now, most, read = 0, 0, itertools.count()

    async def ask(number):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        return number

    async def first(count):
        answers = map_in_order_asyncio(ask, read, in_flight=3)
        found = [await anext(answers) for _ in range(count)]
        await answers.aclose()
        return found

    assert asyncio.run(first(10)) == list(range(10))
    assert most == 3
    assert next(read) <= 10 + 2 * 3


def test_errors_are_those_of_the_blocking_client(fake_server, tmp_path):
    async def ask(image):
        async with AsyncPoseClient(URL, connect=fake_server(pytest.fail)) as client:
            await client.infer(image)

    with pytest.raises(RequestRejected, match="got 5 bytes starting with b'hello'"):
        asyncio.run(ask(b"hello"))
    with pytest.raises(FileError, match="No such file"):
        asyncio.run(ask(tmp_path / "absent.jpg"))


def test_it_says_that_it_must_be_entered():
    client = AsyncPoseClient(URL)

    assert repr(client) == "AsyncPoseClient('grpc://127.0.0.1:8001/bodypose')"
    with pytest.raises(RuntimeError, match="enter it first"):
        asyncio.run(client.infer(b"x"))


def test_a_stream_of_none_at_a_time_is_refused_instead_of_waiting_for_ever(fake_server, one_person):
    async def ask():
        async with AsyncPoseClient(URL, connect=fake_server(one_person)) as client:
            with pytest.raises(ContractError, match="in_flight: expected at least 1"):
                client.infer_stream([photo(4)], in_flight=0)

    asyncio.run(asyncio.wait_for(ask(), 5))
