"""The embedded server behind Envoy with TLS and tokens: what a hostile caller tries, and gets.

What each older flaw needs - another API, a step, deep JSON, very many tensors, chunks, shared
memory - is sent as its author would send it.
"""

from __future__ import annotations

import gzip
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import psutil
import pytest
import yaml
from tritonclient.grpc import service_pb2

from bodypose_client.errors import AccessDenied, WrongProtocol
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.access import Tls
from bodypose_client.wire.retries import NO_RETRIES
from bodypose_loadtest.cli import INVALID
from bodypose_tools.deploying.settings import GATEWAY_MIB, Access
from bodypose_tools.repository.pbtxt import ENSEMBLE, STEPS
from tests.gateways import gateway
from tests.greys import grey_png
from tests.processes import pose_loadtest

pytestmark = pytest.mark.triton

RATE = 40
UNLIMITED = 4000  # a second; what tests send in one after the other never reaches it
INFER = f"/v2/models/{ENSEMBLE}/infer"
SERVICE = "/inference.GRPCInferenceService/"
TOKENS = {name: f"{name}-{'0123456789abcdef' * 2}" for name in ("camera", "greedy", "rotated")}
RAW = {"Inference-Header-Content-Length": "0"}


@dataclass(frozen=True)
class Guarded:
    """A gateway that asks for TLS and a token."""

    netloc: str
    folder: Path

    @property
    def tls(self) -> Tls:
        return Tls(ca_file=self.folder / "tls.crt")

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=self.folder / "tls.crt")
        return http.client.HTTPSConnection(self.netloc, timeout=30, context=context)

    def status(
        self,
        method: str,
        path: str,
        body: object = None,
        token: str | None = TOKENS["camera"],
        **headers: str,
    ) -> int:
        """The status of one request by HTTP."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            named["authorization"] = f"Bearer {token}"
        connection = self.connection()
        try:
            connection.request(method, path, body, named)
            return connection.getresponse().status
        except (ConnectionError, ssl.SSLError):
            return 413  # closed while the body was being sent
        finally:
            connection.close()

    def code(
        self, method: str, message: bytes, token: str | None = TOKENS["camera"], **options: object
    ) -> str:
        """The code of one request by gRPC."""
        root = (self.folder / "tls.crt").read_bytes()
        with grpc.secure_channel(self.netloc, grpc.ssl_channel_credentials(root)) as channel:
            ask = channel.unary_unary(method if "/" in method else f"{SERVICE}{method}")
            metadata = [("authorization", f"Bearer {token}")] if token else []
            try:
                ask(message, timeout=20, metadata=metadata, **options)
            except grpc.RpcError as error:
                return error.code().name
        return "OK"


def write_certificate(folder: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the `openssl` command to make certificates")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.crt -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *names], cwd=folder, check=True, capture_output=True)


def write_tokens(folder: Path, *names: str) -> None:
    """The shipped access.yaml with these clients, in the place of the one that is there."""
    file = folder / "access.yaml"
    told = yaml.safe_load(file.read_text())
    credentials = [{"key": TOKENS[name], "client": name} for name in names]
    told["resources"][0]["typed_config"]["credentials"] = credentials
    (folder / "new").write_text(yaml.safe_dump(told))
    (folder / "new").rename(file)


@contextmanager
def guarded_gateway(
    urls: dict[str, str],
    repository: Path,
    folder: Path,
    memory_mib: int = GATEWAY_MIB,
    requests_per_s: int = UNLIMITED,
) -> Iterator[Guarded]:
    def prepare() -> None:
        write_certificate(folder)
        write_tokens(folder, "camera", "greedy")

    settings = {"requests_per_s": requests_per_s, "memory_mib": memory_mib, "prepare": prepare}
    with gateway("envoy", [urls], repository, folder, Access.TOKEN, **settings) as netloc:
        yield Guarded(netloc, folder)


@pytest.fixture(scope="module")
def guarded(server, repository, tmp_path_factory) -> Iterator[Guarded]:
    urls = {"gRPC": server.grpc_url, "HTTP": server.http_url}
    with guarded_gateway(urls, repository, tmp_path_factory.mktemp("gateway")) as each:
        yield each


def infer_message(model: str = ENSEMBLE, change: Callable[..., object] | None = None) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    image = grey_png(99)
    request.raw_input_contents.append(len(image).to_bytes(4, "little") + image)
    if change is not None:
        change(request, tensor)
    return request.SerializeToString()


def json_body(**tensor: object) -> str:
    return json.dumps(
        {"inputs": [{"name": "image", "shape": [1, 1], "datatype": "BYTES", **tensor}]}
    )


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_caller_with_a_token_is_answered(guarded, scheme):
    url, access = f"{scheme}://{guarded.netloc}", {"tls": guarded.tls}
    with PoseClient(url, token=TOKENS["camera"], **access) as client:
        assert len(client.infer(grey_png(99))) == 1
    for token in (None, "wrong", TOKENS["camera"][:-1], f"{TOKENS['camera']}0", TOKENS["rotated"]):
        with (
            pytest.raises(AccessDenied),
            PoseClient(url, token=token, retries=NO_RETRIES, **access) as client,
        ):
            client.infer(grey_png(99))


def test_no_path_and_no_method_is_open_without_a_token(guarded):
    for path in ("/", "/v2/health/live", "/v2/health/ready", "/v2", INFER, "/metrics"):
        assert guarded.status("GET", path, token=None) == 401, path
    for name in ("x-pose-client", "X-Pose-Client"):
        assert guarded.status("GET", "/v2", token=None, **{name: "camera"}) == 401
    for method in ("ServerLive", "ModelInfer", "/grpc.health.v1.Health/Check"):
        assert guarded.code(method, b"", token=None) == "UNAUTHENTICATED"
    assert guarded.status("GET", f"/v2?authorization={TOKENS['camera']}", token=None) == 401


def test_a_body_without_a_token_is_refused_before_it_is_held(guarded):
    connection = guarded.connection()
    connection.putrequest("POST", INFER)
    connection.putheader("content-length", str(17 * 2**20))
    connection.endheaders()
    assert connection.getresponse().status == 401  # nothing of the body was sent
    connection.close()


@pytest.mark.parametrize("scheme", ["grpcs", "https"])
def test_a_load_test_shows_its_token(guarded, tmp_path, scheme):
    options = (
        *("--scenario", "mixed", "--users", 1, "--duration", "2s", "--warm-up", "0.5s"),
        *("--repeats", 1, "-o", tmp_path / "report", "--url", f"{scheme}://{guarded.netloc}"),
        *("--ca-file", guarded.folder / "tls.crt"),
    )

    done = pose_loadtest("run", *options, POSE_CLIENT_TOKEN=TOKENS["camera"])
    refused = pose_loadtest("--token", "wrong", "run", *options)

    # On a busy machine the generator may have been late, and then it says so.
    assert done.returncode in (0, INVALID), done.stdout + done.stderr
    text = (tmp_path / "report" / "report.json").read_text()
    [step] = json.loads(text)["steps"]
    assert step["errors"] == {}
    assert step["requests"] > 5
    assert json.loads(text)["model"]["model_sha256"]
    assert TOKENS["camera"] not in text
    assert refused.returncode == 1
    address = f"{scheme}://{guarded.netloc}/bodypose"
    assert refused.stderr.startswith(f"error: {address}: expected access, got")


def test_nothing_is_said_without_tls(guarded):
    with pytest.raises(WrongProtocol):
        PoseClient(f"http://{guarded.netloc}", retries=NO_RETRIES)
    host, port = guarded.netloc.split(":")
    with socket.create_connection((host, int(port)), 10) as plain:
        plain.sendall(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
        with suppress(ConnectionResetError):
            assert plain.recv(100) == b""


@pytest.mark.parametrize("step", STEPS)
def test_no_step_can_be_named(guarded, step):
    for method, message in (
        ("ModelInfer", infer_message(step)),
        ("ModelInfer", infer_message(ENSEMBLE) + infer_message(step)),
        ("ModelReady", service_pb2.ModelReadyRequest(name=step).SerializeToString()),
        ("ModelMetadata", service_pb2.ModelMetadataRequest(name=step).SerializeToString()),
        ("ModelConfig", service_pb2.ModelConfigRequest(name=step).SerializeToString()),
    ):
        assert guarded.code(method, message) == "PERMISSION_DENIED", method
    for path in (
        f"/v2/models/{step}/infer",
        f"{INFER}?/../{step}/infer",
        f"/v2/models/{ENSEMBLE}/../{step}/infer",
        f"/v2/models/{ENSEMBLE}/%2e%2e/{step}/infer",
        f"/v2/models/{ENSEMBLE}%2f..%2f{step}/infer",
        f"/v2/models/{ENSEMBLE}\\..\\{step}/infer",
        f"//v2//models//{step}//infer",
        f"/v2/models/{ENSEMBLE}/infer/../../{step}/infer",
    ):
        status = guarded.status("POST", path, json_body(data=["x"]))
        assert status in (400, 403, 404), path


def test_the_model_itself_can_be_asked_about(guarded):
    for message, method in (
        (service_pb2.ModelReadyRequest(name=ENSEMBLE), "ModelReady"),
        (service_pb2.ModelMetadataRequest(name=ENSEMBLE, version="1"), "ModelMetadata"),
        (service_pb2.ModelConfigRequest(name=ENSEMBLE), "ModelConfig"),
    ):
        assert guarded.code(method, message.SerializeToString()) == "OK"
    assert guarded.status("GET", f"/v2/models/{ENSEMBLE}/config") == 200


OTHER_APIS = {
    "repository": ("/v2/repository/index", "RepositoryIndex"),
    "load": (f"/v2/repository/models/{ENSEMBLE}/load", "RepositoryModelLoad"),
    "unload": (f"/v2/repository/models/{ENSEMBLE}/unload", "RepositoryModelUnload"),
    "shared memory": ("/v2/systemsharedmemory/status", "SystemSharedMemoryStatus"),
    "register": ("/v2/systemsharedmemory/region/x/register", "SystemSharedMemoryRegister"),
    "cuda memory": ("/v2/cudasharedmemory/status", "CudaSharedMemoryStatus"),
    "trace": ("/v2/trace/setting", "TraceSetting"),
    "model's trace": (f"/v2/models/{ENSEMBLE}/trace/setting", "TraceSetting"),
    "log": ("/v2/logging", "LogSettings"),
    "statistics": (f"/v2/models/{ENSEMBLE}/stats", "ModelStatistics"),
    "streams": (f"/v2/models/{ENSEMBLE}/generate_stream", "ModelStreamInfer"),
    "metrics": ("/metrics", "Metrics"),
}


@pytest.mark.parametrize("api", OTHER_APIS)
def test_no_other_api_is_reached(guarded, api):
    path, method = OTHER_APIS[api]
    for http_method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
        assert guarded.status(http_method, path) in (400, 403, 404, 405)
    assert guarded.code(method, b"") in ("UNIMPLEMENTED", "PERMISSION_DENIED")


def test_a_body_over_the_limit_is_refused(guarded):
    large = bytes(18 * 2**20)
    assert guarded.status("POST", INFER, large, **RAW) == 413
    chunks = (large[:65536] for _ in range(300))  # of no stated length
    assert guarded.status("POST", INFER, chunks, **RAW) == 413
    message = infer_message(change=lambda request, _: request.raw_input_contents.append(large))
    assert guarded.code("ModelInfer", message) not in ("OK", "INVALID_ARGUMENT")
    assert guarded.code("ModelInfer", infer_message()) == "OK"


@pytest.fixture
def limited(server, repository, tmp_path) -> Iterator[Guarded]:
    urls = {"gRPC": server.grpc_url, "HTTP": server.http_url}
    with guarded_gateway(urls, repository, tmp_path, requests_per_s=RATE) as each:
        yield each


def test_too_many_requests_of_one_token_are_refused_and_others_are_not(limited):
    metadata = [("authorization", f"Bearer {TOKENS['greedy']}"), ("x-pose-client", "camera")]
    root = (limited.folder / "tls.crt").read_bytes()
    with grpc.secure_channel(limited.netloc, grpc.ssl_channel_credentials(root)) as channel:
        grpc.channel_ready_future(channel).result(20)
        ask = channel.unary_unary(f"{SERVICE}ServerReady")
        begun = time.monotonic()
        asked = [ask.future(b"", timeout=60, metadata=metadata) for _ in range(10 * RATE)]
        seen = Counter(each.code().name for each in asked)
        took_s = time.monotonic() - begun

    assert set(seen) == {"OK", "RESOURCE_EXHAUSTED"}
    assert 2 * RATE <= seen["OK"] <= 2 * RATE + RATE * (took_s + 1)
    assert limited.status("GET", "/v2/health/ready") == 200


def test_a_token_that_is_taken_away_is_worth_nothing_at_once(guarded):
    asked = {"method": "GET", "path": "/v2/health/ready", "token": TOKENS["rotated"]}
    assert guarded.status(**asked) == 401
    write_tokens(guarded.folder, "camera", "greedy", "rotated")
    _until(lambda: guarded.status(**asked) == 200)
    write_tokens(guarded.folder, "camera", "greedy")
    _until(lambda: guarded.status(**asked) == 401)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _many_outputs(request, tensor) -> None:
    for number in range(10_000):
        request.outputs.add(name=f"o{number}")


def _shared_input(request, tensor) -> None:
    tensor.parameters["shared_memory_region"].string_param = "triton_python_backend_shm_region_1"


def _shared_output(request, tensor) -> None:
    parameters = request.outputs.add(name="scores").parameters
    parameters["shared_memory_region"].string_param = "triton_python_backend_shm_region_1"


def _huge_shape(request, tensor) -> None:
    tensor.shape[:] = [2**62, 4]


def _no_images(request, tensor) -> None:
    tensor.shape[:] = [0, 1]


GRPC_ATTACKS = [_many_outputs, _shared_input, _shared_output, _huge_shape, _no_images]


@pytest.mark.parametrize("attack", GRPC_ATTACKS)
def test_a_message_that_older_servers_fail_on_does_not_reach_them(guarded, attack):
    assert guarded.code("ModelInfer", infer_message(change=attack)) == "PERMISSION_DENIED"
    assert guarded.code("ModelInfer", infer_message()) == "OK"


def test_a_message_that_hides_is_refused(guarded):
    message = infer_message()
    hidden = guarded.code("ModelInfer", message, compression=grpc.Compression.Gzip)
    assert hidden == "PERMISSION_DENIED"
    for cut in (b"\xff" * 50, message[:-3], message + b"\x0a", b""):
        assert guarded.code("ModelInfer", cut) == "PERMISSION_DENIED"


JSON_ATTACKS = {
    "a million deep": '{"inputs":' + "[" * 1_000_000,
    "deep behind an image": json_body(data=["x"])[:-1] + ',"parameters":' + '{"a":' * 100_000,
    "many outputs": '{"inputs":[],"outputs":[' + '{"name":"a"},' * 10_000 + "{}]}",
    "no images": json_body(shape=[0, 1], data=["x"]),
    "half an image": json_body(shape=[0.5, 1], data=["x"]),
    "2^40 images": json_body(shape=[2**40, 1], data=["x"]),
    "a hidden shape": json_body(data=["x"]).replace('"shape"', '"\\u0073hape"'),
    "shared memory": json_body(parameters={"shared_memory_region": "region"}),
}


@pytest.mark.parametrize("attack", JSON_ATTACKS)
@pytest.mark.parametrize("path", [INFER, f"{INFER}?a=1", f"/v2/models/{ENSEMBLE}/versions/1/infer"])
def test_json_that_older_servers_fail_on_does_not_reach_them(guarded, path, attack):
    assert guarded.status("POST", path, JSON_ATTACKS[attack]) == 400


def test_json_in_the_ways_of_other_clients_is_answered(guarded):
    import base64

    image = base64.b64encode(grey_png(99)).decode()
    for text in (image, image.replace("/", "\\/")):
        body = json_body(data=["IMAGE"]).replace("IMAGE", text)
        assert guarded.status("POST", INFER, body) == 200
    assert guarded.status("POST", INFER, grey_png(99), **RAW) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "gzip"},
        {"content-encoding": "deflate"},
        {"content-encoding": "identity, gzip"},
    ],
)
def test_a_compressed_body_is_refused(guarded, headers):
    bomb = gzip.compress(bytes(2**26))
    assert guarded.status("POST", INFER, bomb, **headers) == 400


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999", "", "0x10", "0, 10"])
def test_an_unclear_length_of_the_json_is_refused(guarded, length):
    deep = JSON_ATTACKS["a million deep"]
    told = {"Inference-Header-Content-Length": length}
    assert guarded.status("POST", INFER, deep, **told) == 400
    connection = guarded.connection()
    connection.putrequest("POST", INFER)
    for name, value in (("authorization", f"Bearer {TOKENS['camera']}"), ("content-length", "4")):
        connection.putheader(name, value)
    for each in ("0", "4"):
        connection.putheader("inference-header-content-length", each)
    connection.endheaders(b"[[[[")
    assert connection.getresponse().status == 400
    connection.close()


def test_the_server_survived_all_of_it(guarded, server):
    assert guarded.code("ModelInfer", infer_message()) == "OK"


def test_bodies_that_never_end_do_not_fill_the_memory(server, repository, tmp_path):
    """Each caller sends 16 MiB of 17 and waits: 24 of them would hold 384 MiB."""
    urls, held = {"gRPC": server.grpc_url, "HTTP": server.http_url}, []
    with guarded_gateway(urls, repository, tmp_path, memory_mib=128) as guarded:
        (envoy,) = (
            each
            for each in psutil.Process().children()
            if "envoy.yaml" in each.cmdline() and Path(each.cwd()) == tmp_path
        )
        for _ in range(24):
            connection = guarded.connection()
            connection.putrequest("POST", INFER)
            connection.putheader("authorization", f"Bearer {TOKENS['greedy']}")
            connection.putheader("content-length", str(17 * 2**20))
            connection.endheaders()
            held.append(connection)
            with suppress(ConnectionError, ssl.SSLError):
                connection.send(bytes(16 * 2**20))
        full_mib = envoy.memory_info().rss / 2**20
        for connection in held:
            connection.close()
        _until(lambda: guarded.status("POST", INFER, grey_png(99), **RAW) == 200)

    assert full_mib < 250


class _Recorder(BaseHTTPRequestHandler):
    """A server that keeps the headers of what reaches it."""

    protocol_version = "HTTP/1.1"
    seen: list[dict[str, str]]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        type(self).seen.append({name.lower(): value for name, value in self.headers.items()})
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def recorded(repository, tmp_path) -> Iterator[tuple[Guarded, list[dict[str, str]]]]:
    """A gateway before a server that records."""
    recorder = type("Recorder", (_Recorder,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), recorder) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        address = f"127.0.0.1:{listening.server_port}"
        with guarded_gateway({"gRPC": address, "HTTP": address}, repository, tmp_path) as each:
            yield each, recorder.seen
        listening.shutdown()
        thread.join()


def test_a_server_sees_neither_chunks_nor_tokens(recorded):
    """Chunked bodies overflow the stack of Triton before 25.07 (CVE-2025-23310)."""
    guarded, seen = recorded
    chunks = (grey_png(99)[at : at + 7] for at in range(0, 70, 7))
    assert guarded.status("POST", INFER, chunks, **RAW) == 200
    (headers,) = seen
    assert "transfer-encoding" not in headers
    assert int(headers["content-length"]) == 70
    assert "authorization" not in headers
    assert headers["x-pose-client"] == "camera"
