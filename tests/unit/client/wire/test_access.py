"""What lets a caller in, over both protocols, for both clients: TLS, tokens, headers, traces.

The servers are real ones on loopback that answer with one person and keep what they were sent.
"""

import asyncio
import contextlib
import json
import re
import shutil
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bodypose_client.async_client import AsyncPoseClient
from bodypose_client.errors import (
    AccessDenied,
    AddressError,
    FileError,
    ServerTimeout,
    ServerUnavailable,
    TlsFailed,
    WrongProtocol,
)
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.access import Access, Tls
from bodypose_client.wire.retries import NO_RETRIES
from pose_runtime.errors import ContractError
from pose_runtime.spec import PipelineSpec

SPEC = PipelineSpec(max_people=1)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
KEYPOINTS = np.full((1, *SPEC.keypoints.dims), 0.5, np.float32)
ANSWERS = {
    SPEC.keypoints.name: ("FP32", KEYPOINTS),
    SPEC.scores.name: ("FP32", np.float32([[0.75]])),
    SPEC.num_people.name: ("INT32", np.int32([[1]])),
}


class Seen(list):
    """Headers of each infer request; `token` is what the server wants, if it wants one."""

    token = None
    slowness_s = 0.0  # between the bytes of an answer


class HttpServer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: Seen

    def do_GET(self):
        if self.path.endswith("/config"):
            return self._answer(200, {"parameters": {"pipeline": {"string_value": SPEC.to_json()}}})
        return self._answer(200, {"versions": ["1"]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        if self.seen.token and self.headers["authorization"] != f"Bearer {self.seen.token}":
            return self._answer(401, {"error": "who are you?"})
        outputs = [
            {"name": name, "datatype": dtype, "shape": array.shape, "data": array.ravel().tolist()}
            for name, (dtype, array) in ANSWERS.items()
        ]
        return self._answer(200, {"outputs": outputs})

    def _answer(self, status, body):
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        if not self.seen.slowness_s:
            self.wfile.write(encoded)
            return
        with contextlib.suppress(OSError):
            for byte in encoded:
                self.wfile.write(bytes([byte]))
                time.sleep(self.seen.slowness_s)

    def log_message(self, *_):
        pass


class GrpcServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, seen):
        self.seen = seen

    def ModelMetadata(self, request, context):  # noqa: N802
        return service_pb2.ModelMetadataResponse(versions=["1"])

    def ModelConfig(self, request, context):  # noqa: N802
        response = service_pb2.ModelConfigResponse()
        response.config.parameters["pipeline"].string_value = SPEC.to_json()
        return response

    def ModelInfer(self, request, context):  # noqa: N802
        sent = dict(context.invocation_metadata())
        self.seen.append(sent)
        if self.seen.token and sent.get("authorization") != f"Bearer {self.seen.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        response = service_pb2.ModelInferResponse()
        for name, (dtype, array) in ANSWERS.items():
            response.outputs.add(name=name, datatype=dtype, shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        return response


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Path:
    """ca.pem; server.pem for 127.0.0.1 and client.pem, both signed by it, with their keys."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the `openssl` command to make certificates")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("server", "client"):
        request = ("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(*request, "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


@contextlib.contextmanager
def http_server(seen, certificates=None):
    handler = type("Handler", (HttpServer,), {"seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if certificates:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            context.load_verify_locations(certificates / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # callers without certificates
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"{'https' if certificates else 'http'}://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def grpc_server(seen, certificates=None):
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(GrpcServer(seen), server)
        if certificates:
            files = [(certificates / f"server.{end}").read_bytes() for end in ("key", "pem")]
            authority = (certificates / "ca.pem").read_bytes()
            credentials = grpc.ssl_server_credentials(
                [tuple(files)], authority, require_client_auth=True
            )
            port = server.add_secure_port("127.0.0.1:0", credentials)
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"{'grpcs' if certificates else 'grpc'}://127.0.0.1:{port}"
        server.stop(0).wait()


SERVERS = {"grpc": grpc_server, "http": http_server}


def ask_blocking(url, calls=({},), **options):
    with PoseClient(url, retries=NO_RETRIES, **options) as client:
        return [client.infer(b"jpeg", **call) for call in calls]


def ask_asyncio(url, calls=({},), **options):
    async def ask():
        async with AsyncPoseClient(url, retries=NO_RETRIES, **options) as client:
            return [await client.infer(b"jpeg", **call) for call in calls]

    return asyncio.run(ask())


@pytest.fixture(params=["grpc", "http"])
def serve(request):
    return SERVERS[request.param]


@pytest.fixture(params=[ask_blocking, ask_asyncio], ids=["blocking", "asyncio"])
def ask(request):
    return request.param


def test_every_request_carries_the_callers_headers_and_a_trace(serve, ask):
    seen = Seen()
    with serve(seen) as url:
        calls = [{}, {}, {"traceparent": TRACE}]
        (first, *_) = ask(url, calls, token="secret", headers={"X-Tenant": "lab"})

    assert first.scores.tolist() == [0.75]
    assert [sent["authorization"] for sent in seen] == ["Bearer secret"] * 3
    assert [sent["x-tenant"] for sent in seen] == ["lab"] * 3
    ours, other, given = (sent["traceparent"] for sent in seen)
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", ours)
    assert ours != other
    assert given == TRACE


def test_a_trace_that_is_none_is_named(serve, ask):
    with serve(Seen()) as url, pytest.raises(ContractError, match="traceparent: expected version"):
        ask(url, [{"traceparent": "00-nonsense"}])


def test_a_wrong_token_is_denied_alike(serve, ask):
    seen = Seen()
    seen.token = "secret"
    with serve(seen) as url:
        assert len(ask(url, token="secret")[0]) == 1
        with pytest.raises(AccessDenied, match="expected access, got 'who are you"):
            ask(url, token="guess")
    assert len(seen) == 2  # a denied request is not sent again


def test_tls_with_certificates_on_both_sides(serve, ask, certificates):
    tls = Tls(*(certificates / name for name in ("ca.pem", "client.pem", "client.key")))
    with serve(Seen(), certificates) as url:
        assert len(ask(url, tls=tls)[0]) == 1


def test_an_unknown_authority_is_not_trusted(serve, ask, certificates):
    with serve(Seen(), certificates) as url, pytest.raises(TlsFailed, match="expected a trusted"):
        ask(url, timeout_s=3)


def test_a_missing_client_certificate_is_refused(serve, ask, certificates):
    with (
        serve(Seen(), certificates) as url,
        pytest.raises((TlsFailed, ServerUnavailable), match="expected a"),
    ):
        ask(url, tls=Tls(certificates / "ca.pem"), timeout_s=3)


@pytest.mark.parametrize(
    ("listens", "asked"),
    [
        (listens, asked)
        for listens in SERVERS
        for asked in ("grpc", "http", "grpcs", "https")
        if listens != asked
    ],
)
def test_another_protocol_at_the_port_is_named_with_the_url_to_try(ask, listens, asked):
    with SERVERS[listens](Seen()) as url:
        wrong = url.replace(listens, asked, 1)
        with pytest.raises(WrongProtocol) as caught:
            ask(wrong, timeout_s=3)

    name = {"grpc": "gRPC", "http": "HTTP"}[listens]
    assert str(caught.value) == (
        f"{wrong}/bodypose: expected a server of this protocol, got one of plain {name};"
        f" try {url}/bodypose"
    )


def test_tls_where_none_was_asked_for_is_named_with_the_url_to_try(serve, ask, certificates):
    with serve(Seen(), certificates) as url:
        plain = url.replace("s://", "://")
        with pytest.raises(WrongProtocol) as caught:
            ask(plain, timeout_s=3)

    assert f"got an encrypted one (TLS); try {url}/bodypose" in str(caught.value)


def test_a_port_where_nobody_listens_is_only_unavailable(ask):
    for protocol in ("grpc", "http"):
        with pytest.raises(ServerUnavailable, match=r"Connection refused.*tools serve") as caught:
            ask(f"{protocol}://127.0.0.1:9", timeout_s=3)
        assert not isinstance(caught.value, WrongProtocol)


def test_certificates_that_cannot_be_used_are_named(ask, certificates, tmp_path):
    with pytest.raises(FileError, match="expected a PEM file"):
        ask("https://127.0.0.1:9", tls=Tls(tmp_path / "absent.pem"))
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(TlsFailed, match="unusable files"):
        ask("https://127.0.0.1:9", tls=Tls(tmp_path / "text.pem"))
    with pytest.raises(AddressError, match="expected grpcs://"):
        ask("grpc://127.0.0.1:9", tls=Tls(certificates / "ca.pem"))


@pytest.mark.parametrize("files", [{"cert_file": "both.pem"}, {"key_file": "client.key"}])
@pytest.mark.parametrize("url", ["grpcs://127.0.0.1:9", "https://127.0.0.1:9"])
def test_a_certificate_goes_with_its_key(ask, files, url):
    with pytest.raises(AddressError, match="expected a certificate and its key, got one of them"):
        ask(url, tls=Tls(**{name: Path(file) for name, file in files.items()}))


@pytest.mark.parametrize(
    "headers", [{"a b": "1"}, {"x-name": "J\u00f6rg"}, {"x-name": "a\nb"}, {"x-bin": "1"}]
)
def test_headers_that_no_protocol_sends_are_refused_without_their_value(headers):
    (name,) = headers
    with pytest.raises(
        AddressError, match=rf"^header '{name}': expected printable ASCII"
    ) as caught:
        Access.of(None, None, headers)
    assert headers[name] not in str(caught.value).split("expected")[1]


def test_a_token_from_a_file_may_end_in_a_newline():
    assert Access.of(None, "secret\n", None).headers == {"authorization": "Bearer secret"}


def test_the_deadline_is_for_the_whole_answer(ask):
    """Each byte comes in time, all of them together do not."""
    seen = Seen()
    with http_server(seen) as url:
        seen.slowness_s = 0.05
        started = time.monotonic()
        with pytest.raises(ServerTimeout, match=r"within 0\.3 s"):
            ask(url, timeout_s=0.3)

    assert time.monotonic() - started < 60
