"""The embedded server as a process: it starts, says what it is, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from bodypose_client.errors import ClientError
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.access import Tls
from bodypose_tools.repository.pbtxt import ENSEMBLE, GROUPING, NETWORK, PREPROCESS
from bodypose_tools.server.embedded import ServerError, embedded_server
from pose_runtime.spec import PipelineSpec
from tests.processes import free_ports, left_by, processes_of, until_ready, wait_for

pytestmark = pytest.mark.triton


def get(server, path: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(server.http_url, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, json.loads(body)


def test_the_server_has_the_four_models_and_their_tensors(server):
    assert server.models == (ENSEMBLE, GROUPING, NETWORK, PREPROCESS)

    _, described = get(server, f"/v2/models/{ENSEMBLE}")

    assert described["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}]
    assert {output["name"] for output in described["outputs"]} == {
        "keypoints",
        "scores",
        "num_people",
    }


def test_a_client_learns_the_pipeline_from_the_server(server, repository):
    _, config = get(server, f"/v2/models/{ENSEMBLE}/config")

    told = PipelineSpec.from_json(config["parameters"]["pipeline"]["string_value"])

    assert told == PipelineSpec.load(repository / NETWORK / "1" / "pipeline.json")


def test_the_apis_that_could_change_the_server_are_closed(server):
    for path in ("/v2/systemsharedmemory/status", "/v2/logging", "/v2/trace/setting"):
        status, answer = get(server, path)
        assert (path, status) == (path, http.client.FORBIDDEN), answer


def test_serve_prints_its_addresses_and_is_reachable_there(serve):
    process = serve()
    said = until_ready(process)

    (url,) = [line.split()[-1] for line in said.splitlines() if line.startswith("HTTP")]
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("GET", f"/v2/models/{ENSEMBLE}/ready")
    assert connection.getresponse().status == http.client.OK
    connection.close()
    assert said.count("127.0.0.1:") == 3
    process.terminate()
    process.communicate(timeout=15)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly_and_nothing_is_left(serve, tmp_path, number):
    process = serve()
    until_ready(process)

    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=15)

    assert (process.returncode, stdout, stderr) == (0, "stopped\n", "")
    assert left_by(process, tmp_path) == []


def test_a_signal_while_it_starts_stops_it_too(serve, tmp_path):
    process = serve()
    wait_for(lambda: processes_of(process, "tritonserver"))

    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=15)

    assert (process.returncode, stdout, stderr) == (0, "stopped\n", "")
    assert left_by(process, tmp_path) == []


def test_a_client_that_stays_connected_does_not_keep_it(serve, tmp_path):
    process = serve()
    said = until_ready(process)
    url = next(line.split()[-1] for line in said.splitlines() if line.startswith("HTTP"))
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("GET", "/v2")
    connection.getresponse().read()

    process.terminate()
    process.communicate(timeout=15)
    connection.close()

    assert process.returncode == 0
    assert left_by(process, tmp_path) == []


def test_a_taken_port_is_an_error_in_one_line(serve, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = serve("--http-port", str(port), *free_ports()[2:])
        stdout, stderr = process.communicate(timeout=15)

    assert (process.returncode, stdout) == (1, "")
    assert stderr.startswith(f"error: port {port}: expected a free port for http")
    assert stderr.count("\n") == 1


def test_a_model_that_does_not_load_is_named_with_its_reason(tmp_path, tiny_onnx):
    from bodypose_tools.repository.build import build_repository

    spec = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
    build_repository(tiny_onnx(tmp_path / "tiny.onnx", spec), tmp_path / "repository")
    version = tmp_path / "repository" / NETWORK / "1"
    (version / "model.onnx").write_bytes(b"cut off")
    cut = hashlib.sha256(b"cut off").hexdigest()
    (version / "pipeline.json").write_text(spec.with_model(cut).to_json())

    with (
        pytest.raises(ServerError, match=rf"^{NETWORK} does not load: .*model\.onnx") as caught,
        embedded_server(tmp_path / "repository"),
    ):
        pass

    assert len(str(caught.value).splitlines()) == 1


def test_another_address_is_encrypted_and_knows_its_clients(serve, tmp_path, tiny_png):
    """Over all addresses of this machine, with certificates for the server and the client."""
    folder = certificates(tmp_path / "pki")
    files = ("--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "ca.pem")
    given = [str(folder / word) if "." in word else word for word in files]
    process = serve(*free_ports(), "--host", "0.0.0.0", *given)
    said = until_ready(process)
    port = next(line for line in said.splitlines() if line.startswith("gRPC")).rsplit(":", 1)[1]
    url = f"grpcs://localhost:{port}"
    ours = Tls(folder / "ca.pem", folder / "client.pem", folder / "client.key")

    with PoseClient(url, tls=ours) as client:
        assert len(client.infer(tiny_png)) == 1
    with pytest.raises(ClientError), PoseClient(url, tls=Tls(folder / "ca.pem"), timeout_s=3):
        pass
    with pytest.raises(ClientError), PoseClient(f"grpc://localhost:{port}", timeout_s=3):
        pass
    assert process.stderr.readline().startswith("warning: 0.0.0.0: tritonserver 2.51 has")
    assert "HTTP     http://127.0.0.1:" in said


@pytest.fixture
def tiny_png() -> bytes:
    import cv2
    import numpy as np

    return cv2.imencode(".png", np.full((32, 48, 3), 9, np.uint8))[1].tobytes()


def certificates(folder: Path) -> Path:
    """An authority, and a certificate of it for `localhost` and for a client."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the `openssl` command to make certificates")
    folder.mkdir()

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for name in ("server", "client"):
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("req", *key, *request)
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


def test_models_are_loaded_once(repository):
    """Triton takes a file that Python leaves beside a model for a change, and loads it again."""
    with embedded_server(repository) as server:
        at_first = server.model_processes()
        time.sleep(3)  # it looks every second
        assert server.model_processes() == at_first
