"""Both protocols: what fails, fails alike. Servers here are real sockets on loopback."""

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from bodypose_client.blocking import run
from bodypose_client.errors import (
    AccessDenied,
    ModelNotFound,
    RateLimited,
    RequestRejected,
    ServerBusy,
    ServerTimeout,
    ServerUnavailable,
)
from bodypose_client.wire.access import Access
from bodypose_client.wire.address import Address
from bodypose_client.wire.connect import connect
from bodypose_client.wire.connection import Model, Request, server_error
from bodypose_client.wire.deadline import Deadline
from pose_runtime.errors import ServerFull
from tests.processes import free_port

IMAGE = {"image": np.array([[b"jpeg"]], np.object_)}
PROTOCOLS = pytest.mark.parametrize("protocol", ["grpc", "http"])


ANYBODY = Access()


class Opened:
    """A blocking connection with ordinary functions."""

    def __init__(self, url, timeout_s=5.0, access=ANYBODY):
        self._connection = connect(Address.parse(url), access)
        self._timeout_s = timeout_s

    def infer(self, model, inputs, headers=None):
        request = Request(model, inputs, Deadline.after(self._timeout_s), headers or {})
        return run(self._connection.infer(request))

    def describe(self, model):
        return run(self._connection.describe(model, Deadline.after(self._timeout_s)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        run(self._connection.close())


@PROTOCOLS
def test_a_refused_connection_says_what_to_run(protocol):
    closed_port = free_port()
    with (
        Opened(f"{protocol}://127.0.0.1:{closed_port}") as connection,
        pytest.raises(ServerUnavailable) as caught,
    ):
        connection.infer(Model("bodypose"), IMAGE)

    assert str(caught.value) == (
        f"{protocol}://127.0.0.1:{closed_port}/bodypose: expected a pose server,"
        " got 'Connection refused'; start one with `tools serve`"
    )


@PROTOCOLS
def test_a_server_that_says_nothing_is_a_timeout(protocol):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{protocol}://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Opened(url, timeout_s=0.2) as connection,
            pytest.raises(ServerTimeout, match=r"0\.2 s"),
        ):
            connection.describe(Model("bodypose"))


@PROTOCOLS
def test_a_server_of_another_protocol_is_no_pose_server(protocol):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        threading.Thread(target=_greet, args=(stranger,), daemon=True).start()
        url = f"{protocol}://127.0.0.1:{stranger.getsockname()[1]}"
        with Opened(url) as connection, pytest.raises(ServerUnavailable, match="expected a pose"):
            connection.infer(Model("bodypose"), IMAGE)


def _greet(server):
    with contextlib.suppress(OSError):
        while True:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"220 mail.example.org ready\r\n")


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", ModelNotFound),
        ("404", "Request for unknown model: 'x' is not found", ModelNotFound),
        ("UNAVAILABLE", "in ensemble 'b', [request id: 1] Exceeds maximum queue size", ServerBusy),
        ("503", "Exceeds maximum queue size", ServerBusy),
        ("503", f"in ensemble 'b', {ServerFull(64, 64)}", ServerBusy),
        ("UNAVAILABLE", "Server is stopping", ServerUnavailable),
        ("CANCELLED", "CANCELLED", ServerUnavailable),
        ("NOT_FOUND", "unknown model: 'b' has no available versions", ServerUnavailable),
        ("INTERNAL", "Stub process 'b_0_0' is not healthy.", ServerUnavailable),
        ("500", "in ensemble 'b', Stub process 'b_0_0' is not healthy.", ServerUnavailable),
        ("INTERNAL", "in ensemble 'b', image: expected JPEG, got no bytes", RequestRejected),
        ("500", "in ensemble 'b', image: expected JPEG, got no bytes", RequestRejected),
        ("UNIMPLEMENTED", "unknown service", ServerUnavailable),
        ("UNAVAILABLE", "This protocol is restricted, expecting header 'x'", AccessDenied),
        ("403", "This API is restricted, expecting header 'x'", AccessDenied),
        ("PERMISSION_DENIED", "no", AccessDenied),
        ("502", "<html>Bad Gateway</html>", ServerUnavailable),
        ("504", "<html>Gateway Timeout</html>", ServerUnavailable),
        ("308", "", ServerUnavailable),
        ("429", "slow down", RateLimited),
        ("RESOURCE_EXHAUSTED", "slow down", RateLimited),
        ("RESOURCE_EXHAUSTED", "Received message larger than max (9 vs. 4)", RequestRejected),
    ],
)
def test_both_protocols_share_one_tree(code, message, kind):
    assert type(server_error(Address.parse("grpc://h"), code, message)) is kind


def test_a_rejection_is_the_models_words_in_one_line():
    error = server_error(
        Address.parse("grpc://h"),
        "INTERNAL",
        "in ensemble 'bodypose', [request id: <id_unknown>] image: expected\n JPEG, got text",
    )

    assert str(error) == "image: expected JPEG, got text"


class OneByOne(BaseHTTPRequestHandler):
    """Speaks the JSON form of KServe v2 and hangs up after each answer without saying so."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.endswith("/config"):
            self._answer(200, {"parameters": {"pipeline": {"string_value": "spec"}}})
        elif self.path == "/v2/models/bodypose":
            self._answer(200, {"versions": ["1"]})
        else:
            self._answer(404, {"error": "unknown model"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        output = {"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 0.25]}
        self._answer(200, {"outputs": [output]})

    def _answer(self, status, body):
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def kserve_url():
    with ThreadingHTTPServer(("127.0.0.1", 0), OneByOne) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_http_reads_tensors_and_model_config(kserve_url):
    with Opened(kserve_url) as connection:
        outputs = connection.infer(Model("bodypose"), IMAGE)
        info = connection.describe(Model("bodypose"))

    assert outputs["scores"].tolist() == [[0.5, 0.25]]
    assert (info.versions, info.parameters) == (("1",), {"pipeline": "spec"})


def test_http_asks_again_when_the_server_had_hung_up(kserve_url):
    with Opened(kserve_url) as connection:
        answers = [connection.infer(Model("bodypose"), IMAGE)["scores"].shape for _ in range(5)]

    assert answers == [(1, 2)] * 5


def test_http_names_the_model_that_is_not_there(kserve_url):
    with Opened(kserve_url) as connection, pytest.raises(ModelNotFound, match="unknown model"):
        connection.describe(Model("other", "2"))
