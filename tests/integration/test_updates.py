"""Versions change under load: no request fails, and every answer is from one version entirely."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from bodypose_tools.repository import versions
from bodypose_tools.repository.build import (
    RepositoryError,
    build_repository,
    changes_since_build,
    version_in_use,
)
from bodypose_tools.repository.lock import RepositoryInUse
from bodypose_tools.repository.pbtxt import ENSEMBLE, NETWORK
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from bodypose_tools.server.readiness import is_ready
from bodypose_tools.server.settings import Updates
from pose_runtime.extras import install_line
from pose_runtime.spec import PipelineSpec
from tests.tiny_network import SIZED
from tests.two_versions import two_versions

pytestmark = pytest.mark.triton

PICTURE = np.zeros((32, 48, 3), np.uint8)
PICTURE[::2] = 20
PNG = cv2.imencode(".png", PICTURE)[1].tobytes()
OF_VERSION_1 = ("1", 1 + 10, round(0.9 * SIZED, 3))
OF_VERSION_2 = ("2", 1 + 30, round(0.45 * SIZED, 3))

Seen = list[tuple[str, float, float]]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with `one.onnx` and the `repository` that serves it, version 2 beside it."""
    pytest.importorskip("pytriton", reason=f"needs nvidia-pytriton: {install_line('embedded')}")
    made = tmp_path_factory.mktemp("made")
    two_versions(made)
    return made


@pytest.fixture(scope="module")
def repository(made) -> Path:
    """Every test leaves version 1 in use."""
    return made / "repository"


@pytest.fixture(scope="module")
def server(repository) -> Iterator[EmbeddedServer]:
    with embedded_server(repository, updates=Updates.POLL) as running:
        yield running


def steps_of(server: EmbeddedServer) -> set[int]:
    return {
        child.pid for child in psutil.Process(server.pid).children() if "python" in child.name()
    }


def test_every_model_starts_once(tmp_path, tiny_onnx: Callable[..., Path]):
    """What a starting model leaves in its folder is no update."""
    model = tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec(network_hw=(32, 48)))
    build_repository(model, tmp_path / "repository")
    with embedded_server(tmp_path / "repository", updates=Updates.POLL) as server:
        steps = steps_of(server)
        looked = time.monotonic() + 3  # Triton looks every second
        while time.monotonic() < looked:
            assert steps_of(server) == steps
            time.sleep(0.1)
    assert len(steps) == 3


@contextmanager
def constant_load(server: EmbeddedServer) -> Iterator[tuple[Seen, list[Exception]]]:
    """Three callers over gRPC and two over HTTP, each asking as fast as it is answered."""
    from tritonclient import grpc, http

    seen: Seen = []
    failures: list[Exception] = []
    done = threading.Event()

    def ask(module, url: str) -> None:
        tensor = module.InferInput("image", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[PNG]], np.object_))
        with module.InferenceServerClient(url) as client:
            while not done.is_set():
                try:
                    seen.append(read(client.infer(ENSEMBLE, [tensor])))
                except Exception as error:  # none may happen, whatever it is
                    failures.append(error)

    places = [(grpc, server.grpc_url)] * 3 + [(http, server.http_url)] * 2
    callers = [threading.Thread(target=ask, args=place) for place in places]
    for caller in callers:
        caller.start()
    try:
        yield seen, failures
    finally:
        done.set()
        for caller in callers:
            caller.join()


def read(result) -> tuple[str, float, float]:
    answer = result.get_response()
    version = answer["model_version"] if isinstance(answer, dict) else answer.model_version
    keypoints, scores = result.as_numpy("keypoints"), result.as_numpy("scores")
    return version, round(float(keypoints[0, 0, 0, 0]), 2), round(float(scores[0, 0]), 3)


def until(seen: Seen, answer: tuple[str, float, float]) -> None:
    """Until nothing but `answer` has come for a while."""
    deadline = time.monotonic() + 20
    while not (len(seen) > 100 and set(seen[-100:]) == {answer}):
        assert time.monotonic() < deadline, set(seen[-100:])
        time.sleep(0.05)


def promote(repository: Path, server: EmbeddedServer, version: int, timeout_s: float = 30) -> None:
    versions.promote(repository, version, partial(is_ready, server.http_url), timeout_s)


def test_promote_and_rollback_under_load_lose_and_mix_nothing(repository, server):
    with constant_load(server) as (seen, failures):
        until(seen, OF_VERSION_1)
        promote(repository, server, 2)
        until(seen, OF_VERSION_2)
        assert versions.rollback(repository, partial(is_ready, server.http_url)) == 1
        until(seen, OF_VERSION_1)

    assert failures == []
    assert set(seen) == {OF_VERSION_1, OF_VERSION_2}
    assert version_in_use(repository) == 1
    assert changes_since_build(repository) == []


def test_a_version_is_added_while_the_folder_is_served(repository, server, made):
    with constant_load(server) as (seen, failures):
        versions.add_version(made / "one.onnx", repository, 3)
        promote(repository, server, 3)
        until(seen, ("3", *OF_VERSION_1[1:]))
        assert versions.rollback(repository, partial(is_ready, server.http_url)) == 1
        until(seen, OF_VERSION_1)

    assert failures == []
    assert {answer[0] for answer in seen} == {"1", "3"}


def test_a_damaged_version_is_refused_by_name_and_the_old_one_keeps_serving(repository, server):
    path = repository / NETWORK / "2" / "model.onnx"
    whole = path.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    with constant_load(server) as (seen, failures):
        with pytest.raises(RepositoryError, match=r"2/model\.onnx changed.*version 1 keeps"):
            promote(repository, server, 2)
        time.sleep(2)  # two polls
        until(seen, OF_VERSION_1)
    path.write_bytes(whole)

    assert (failures, set(seen)) == ([], {OF_VERSION_1})


def test_a_version_that_does_not_load_is_taken_back(repository, server, made):
    """Its files are whole, but OpenVINO does not know an operator of it."""
    import onnx

    model = onnx.load(made / "one.onnx")
    next(node for node in model.graph.node if node.op_type == "Mul").domain = "elsewhere"
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    onnx.save(model, made / "four.onnx")
    versions.add_version(made / "four.onnx", repository, 4)

    with constant_load(server) as (seen, failures):
        # In 5 s its neighbours were not ready, either, on a busy machine.
        with pytest.raises(RepositoryError, match=rf"expected {NETWORK} ready.*version 1 keeps"):
            promote(repository, server, 4, timeout_s=20)
        until(seen, OF_VERSION_1)

    assert (failures, set(seen)) == ([], {OF_VERSION_1})
    assert changes_since_build(repository) == []


@pytest.mark.usefixtures("server")
def test_a_served_folder_is_not_rebuilt(repository, made):
    with pytest.raises(RepositoryInUse, match="`tools build-repo --version 2`"):
        build_repository(made / "one.onnx", repository)

    assert changes_since_build(repository) == []
