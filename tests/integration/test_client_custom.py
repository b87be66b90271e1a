"""The client against a server of another kind: four joints, and shared memory open."""

import asyncio
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_client import cli
from bodypose_client.async_client import AsyncPoseClient
from bodypose_client.errors import RequestRejected, SharedMemoryRefused
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.shared_memory import SharedMemory
from bodypose_tools.repository.build import build_repository
from bodypose_tools.server.embedded import CLOSED_APIS, embedded_server
from pose_runtime.skeleton import Skeleton
from pose_runtime.spec import GroupingSettings, PipelineSpec

pytestmark = pytest.mark.triton

STICK = Skeleton(
    name="stick",
    joints=("head", "hip", "left_foot", "right_foot"),
    limbs=((0, 1), (1, 2), (1, 3)),
    mirror=(0, 1, 3, 2),
    sigmas=(0.05, 0.1, 0.09, 0.09),
    annotated=(0, 1, 2, 3),
)
SPEC = PipelineSpec(
    STICK, (32, 48), max_peaks=3, max_people=2, grouping=GroupingSettings(min_peak_score=0.2)
)


@pytest.fixture(scope="module")
def open_server(tmp_path_factory, repository, tiny_onnx):
    folder = tmp_path_factory.mktemp("stick")
    build_repository(tiny_onnx(folder / "stick.onnx", SPEC), folder / "repository")
    closed = [api for api in CLOSED_APIS if api != "shared-memory"]
    with embedded_server(folder / "repository", closed_apis=closed) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def url(request, open_server):
    return f"{request.param}://{getattr(open_server, f'{request.param}_url')}"


@pytest.fixture(scope="module")
def photos():
    """Dark to bright, of different sizes: the tiny network moves its person with brightness."""
    return [np.full((40 + 8 * n, 60 + 8 * n, 3), 20 * n, np.uint8) for n in range(12)]


def test_the_servers_own_warm_up_is_no_request(repository):
    with embedded_server(repository) as running:
        for url in (f"grpc://{running.grpc_url}", f"http://{running.http_url}"):
            with PoseClient(url) as client:
                before = {model.name: model.requests for model in client.inspect().models}
                client.infer(np.zeros((32, 48, 3), np.uint8))
                after = {model.name: model.requests for model in client.inspect().models}

            assert len(before) == 4
            assert set(before.values()) == {0 if url.startswith("grpc") else 1}
            assert set(after.values()) == {1 if url.startswith("grpc") else 2}


def test_skeleton_joints_and_thresholds_come_from_the_server(url, photos):
    with PoseClient(url) as client:
        poses = client.infer(photos[3])

        assert client.skeleton == STICK
        assert client.spec.grouping.min_peak_score == 0.2
    assert poses.keypoints.shape == (1, 4, 3)
    assert (poses.keypoints[0, :, 2] > 0.2).all()
    assert len(poses.to_openpose()["people"][0]["pose_keypoints_2d"]) == 12
    assert len(poses.to_coco(1)[0]["keypoints"]) == 12


def test_the_command_works_with_another_skeleton(url, photos, tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), photos[0])

    result = CliRunner().invoke(
        cli.app, ["infer", str(path), "--url", url, "--visualize", str(tmp_path / "out.png")]
    )

    assert result.exit_code == 0
    assert "joints  4/4" in result.stdout
    assert (cv2.imread(str(tmp_path / "out.png")) != photos[0]).any()


def test_asyncio_finds_whom_the_blocking_client_finds(url, photos):
    async def ask():
        async with AsyncPoseClient(url) as client:
            batch = await client.infer_batch(photos[:3])
            return batch + [poses async for poses in client.infer_stream(photos, in_flight=3)]

    with PoseClient(url) as client:
        expected = client.infer_batch(photos[:3]) + list(client.infer_stream(photos))
    for found, same in zip(asyncio.run(ask()), expected, strict=True):
        assert np.array_equal(found.keypoints, same.keypoints)


@pytest.mark.parametrize("kind", [PoseClient, AsyncPoseClient])
def test_shared_memory_gives_the_same_people(url, photos, kind):
    questions = [*photos, photos[0], photos[11]]
    with PoseClient(url) as client:
        expected = [*client.infer_stream(questions), *client.infer_batch(photos[:4])]

    others = regions()
    found = ask_all(kind, url, questions, photos[:4], SharedMemory.SYSTEM)

    for mine, same in zip(found, expected, strict=True):
        assert np.array_equal(mine.keypoints, same.keypoints)
    assert regions() <= others


def ask_all(kind, url, questions, batch, shared_memory):
    async def ask():
        async with AsyncPoseClient(url, shared_memory=shared_memory) as client:
            streamed = [poses async for poses in client.infer_stream(questions)]
            return streamed + await client.infer_batch(batch)

    if kind is AsyncPoseClient:
        return asyncio.run(ask())
    with PoseClient(url, shared_memory=shared_memory) as client:
        return [*client.infer_stream(questions), *client.infer_batch(batch)]


def test_a_bad_image_in_shared_memory_is_one_line(url, photos):
    with PoseClient(url, shared_memory=SharedMemory.SYSTEM) as client:
        with pytest.raises(RequestRejected, match="image: expected"):
            client.infer(b"hello")
        assert len(client.infer(photos[3])) == 1


def regions() -> set[str]:
    """Python's shared-memory regions on this machine, of this and of other processes."""
    return {path.name for path in Path("/dev/shm").glob("psm_*")}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_that_closes_shared_memory_is_explained(server, protocol):
    url = f"{protocol}://{getattr(server, f'{protocol}_url')}"

    with pytest.raises(SharedMemoryRefused) as caught:
        PoseClient(url, shared_memory=SharedMemory.SYSTEM)

    assert "reads shared memory, got" in str(caught.value)
    assert "restricted" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_server_says_what_its_models_did(url, photos):
    with PoseClient(url) as client:
        before = {model.name: model for model in client.inspect().models}
        client.infer_batch(photos[:3])
        info = client.inspect()
    after = {model.name: model for model in info.models}

    assert info.name
    assert info.version
    assert after["bodypose"].requests == before["bodypose"].requests + 1
    assert after["bodypose_network"].images == before["bodypose_network"].images + 3
    assert after["bodypose_network"].compute_ms > 0
