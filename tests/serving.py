"""One real server for all integration tests, and the ways to ask it."""

from __future__ import annotations

import base64
import http.client
import importlib.util
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import ENSEMBLE
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from pose_runtime.errors import PoseError
from pose_runtime.extras import install_line
from pose_runtime.poses import Poses, unpack_poses
from pose_runtime.spec import PipelineSpec
from tests.coco import COCO, MISSING_COCO
from tests.processes import TOOLS, free_ports

# 3 : 2, so that pictures of that shape fill the network's input without padding.
SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
MISSING_WHEEL = f"needs the embedded server: run {install_line('embedded')}"

Ask = Callable[[EmbeddedServer, bytes], Poses]


class Refused(PoseError):
    """The server answered with an error."""


@pytest.fixture(scope="session")
def repository(tmp_path_factory, tiny_onnx: Callable[..., Path]) -> Path:
    if importlib.util.find_spec("pytriton") is None:
        pytest.skip(MISSING_WHEEL)
    folder = tmp_path_factory.mktemp("served")
    build_repository(tiny_onnx(folder / "tiny.onnx", SPEC), folder / "repository")
    return folder / "repository"


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[EmbeddedServer]:
    with embedded_server(repository) as running:
        yield running


@pytest.fixture(scope="session")
def coco() -> Path:
    """The folder of the real COCO images."""
    if not (COCO / "val").is_dir():
        pytest.skip(MISSING_COCO)
    return COCO


@pytest.fixture(scope="session")
def shipped_repository(tmp_path_factory) -> Path:
    """A repository of the shipped model."""
    if importlib.util.find_spec("pytriton") is None:
        pytest.skip(MISSING_WHEEL)
    repository = tmp_path_factory.mktemp("shipped") / "repository"
    build_repository(SHIPPED_MODEL, repository)
    return repository


@pytest.fixture(scope="session")
def shipped(shipped_repository: Path) -> Iterator[EmbeddedServer]:
    """A server of the shipped model."""
    with embedded_server(shipped_repository) as server:
        yield server


@pytest.fixture(params=["grpc", "http", "raw", "json"])
def ask(request) -> Ask:
    """One way of sending an image: official clients, `curl --data-binary`, JSON with base64."""
    return {"grpc": _by_grpc, "http": _by_http, "raw": _by_raw_body, "json": _by_json}[
        request.param
    ]


@pytest.fixture
def refused() -> type[Refused]:
    return Refused


@pytest.fixture
def by_grpc() -> Ask:
    return _by_grpc


def _by_grpc(server: EmbeddedServer, image: bytes) -> Poses:
    from tritonclient import grpc

    with grpc.InferenceServerClient(server.grpc_url) as client:
        return _by_official_client(client, grpc, image)


def _by_http(server: EmbeddedServer, image: bytes) -> Poses:
    from tritonclient import http

    with http.InferenceServerClient(server.http_url) as client:
        return _by_official_client(client, http, image)


def _by_official_client(client, module, image: bytes) -> Poses:
    from tritonclient.utils import InferenceServerException

    tensor = module.InferInput(SPEC.image.name, [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image]], np.object_))
    try:
        result = client.infer(ENSEMBLE, [tensor])
    except InferenceServerException as error:
        raise Refused(error.message()) from error
    return _poses({name: result.as_numpy(name) for name in ("keypoints", "scores", "num_people")})


def _by_raw_body(server: EmbeddedServer, image: bytes) -> Poses:
    headers = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
    response, body = _post(server, image, headers)
    length = int(response.headers["Inference-Header-Content-Length"])
    described, data = json.loads(body[:length]), body[length:]
    arrays = {}
    for output in described["outputs"]:
        size = output["parameters"]["binary_data_size"]
        dtype = {"FP32": np.float32, "INT32": np.int32}[output["datatype"]]
        arrays[output["name"]] = np.frombuffer(data[:size], dtype).reshape(output["shape"])
        data = data[size:]
    return _poses(arrays)


def _by_json(server: EmbeddedServer, image: bytes) -> Poses:
    tensor = {
        "name": "image",
        "shape": [1, 1],
        "datatype": "BYTES",
        "data": [base64.b64encode(image).decode()],
    }
    _, body = _post(server, json.dumps({"inputs": [tensor]}).encode(), {})
    return _poses(
        {
            output["name"]: np.array(output["data"]).reshape(output["shape"])
            for output in json.loads(body)["outputs"]
        }
    )


def _post(
    server: EmbeddedServer, body: bytes, headers: dict[str, str]
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(server.http_url, timeout=30)
    try:
        connection.request("POST", f"/v2/models/{ENSEMBLE}/infer", body, headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise Refused(json.loads(answer)["error"])
    return response, answer


def _poses(arrays: dict[str, NDArray]) -> Poses:
    return unpack_poses(arrays["keypoints"][0], arrays["scores"][0], arrays["num_people"][0])


@pytest.fixture
def serve(repository: Path, tmp_path: Path):
    """Starts `tools serve` as a user would, on free ports; ended by force if a test fails."""
    started: list[subprocess.Popen[str]] = []

    def start(
        *options: str, folder: Path = repository, inside: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*inside, *TOOLS, "serve", folder, *(options or free_ports())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
