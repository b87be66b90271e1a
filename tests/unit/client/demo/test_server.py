import contextlib
import http.client
import json
import re
import socket
import threading
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from bodypose_client.commands import demo as cli_demo
from bodypose_client.demo import server as demo
from bodypose_client.demo.link import ServerLink
from bodypose_client.demo.server import DemoApi, DemoPortError, demo_server
from bodypose_client.demo.words import in_words
from bodypose_client.errors import (
    AccessDenied,
    RequestRejected,
    ServerBusy,
    ServerTimeout,
    ServerUnavailable,
)
from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.connection import ModelStatistics, ServerInfo
from bodypose_client.wire.retries import NO_RETRIES
from pose_runtime.poses import FOUND_JOINT_SCORE

PAGE = Path(demo.__file__).with_name("page")


@pytest.fixture
def photo():
    return cv2.imencode(".png", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()


class Server:
    """A pose server that can be switched off, and says what its models have done."""

    def __init__(self, connect):
        self.connect_to_it = connect
        self.away = False
        self.opened = self.closed = 0
        self.statistics = []
        self.error = None
        self.forbids_statistics = False

    def connect(self, address, access):
        connection = self.connect_to_it(address, access)
        self.opened += 1

        async def infer(request):
            self.check()
            return await connection.infer(request)

        async def describe(model, deadline):
            self.check()
            return await connection.describe(model, deadline)

        async def inspect(deadline):
            if self.forbids_statistics:
                raise AccessDenied("here", "this API is restricted")
            return ServerInfo("t", "2", tuple(self.statistics.pop(0) if self.statistics else ()))

        async def close():
            self.closed += 1

        return replace(connection, infer=infer, describe=describe, inspect=inspect, close=close)

    def check(self):
        if self.away:
            raise ServerUnavailable("grpc://here", "Connection refused")
        if self.error:
            raise self.error

    def open_client(self):
        return PoseClient(connect=self.connect, retries=NO_RETRIES)


@pytest.fixture
def server(fake_server, one_person):
    return Server(fake_server(one_person))


@pytest.fixture
def link(server):
    with contextlib.closing(ServerLink(server.open_client)) as link:
        yield link
    assert server.opened == server.closed


@pytest.fixture
def ask(link):
    """One request to the page's server: (status, headers, body)."""
    with demo_server(DemoApi(link, "grpc://here"), 0) as running:
        port = running.server_address[1]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()

        def call(method, path, body=None, **headers):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            with contextlib.closing(connection):
                names = {name.replace("_", "-"): value for name, value in headers.items()}
                connection.request(method, path, body, names)
                response = connection.getresponse()
                return response.status, response.headers, response.read()

        yield call
        running.shutdown()
        thread.join()


def answer_of(response):
    status, _, body = response
    return status, json.loads(body)


# The page's server


def test_the_page_is_served_with_all_its_files(ask):
    status, headers, body = ask("GET", "/")
    named = re.findall(rb'(?:src|href)="(/[^"]+)"', body)

    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert len(named) >= 4
    assert {ask("GET", path.decode())[0] for path in named} == {200}


def test_the_pages_sliders_begin_where_everything_else_does(ask):
    """Before the page knows the server's thresholds, and once it knows them."""
    _, _, page = ask("GET", "/")
    _, _, script = ask("GET", "/app.js")

    for slider, threshold in (
        (b"person-score", DISPLAY_MIN_SCORE),
        (b"joint-score", FOUND_JOINT_SCORE),
    ):
        (begin,) = re.findall(rb'id="%s"[^>]* value="([^"]+)"' % slider, page)
        assert float(begin) == threshold
    assert b'at("joint-score").value = status.min_joint' in script


def test_nothing_comes_from_elsewhere(ask):
    _, headers, _ = ask("GET", "/")

    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for file in PAGE.iterdir():
        elsewhere = re.findall(r"https?://(?!127\.0\.0\.1|www\.w3\.org/2000/svg)", file.read_text())
        assert not elsewhere, file.name


def test_text_never_becomes_html():
    for script in PAGE.glob("*.js"):
        for door in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert door not in script.read_text(), script.name


@pytest.mark.parametrize("path", ["/nothing", "/../cli.py", "/%2e%2e/cli.py", "/demo_server.py"])
def test_only_the_page_is_served(ask, path):
    assert answer_of(ask("GET", path)) == (404, {"problem": "no such page", "detail": ""})


def test_status_tells_what_the_page_must_know(ask, spec):
    status, about = answer_of(ask("GET", "/api/status"))

    assert (status, about["up"], about["url"]) == (200, True, "grpc://here")
    assert about["model"] == {"name": "bodypose", "version": "3", "sha256": spec.model_sha256}
    assert about["server"] == {"name": "t", "version": "2"}
    assert about["skeleton"]["limbs"] == [list(limb) for limb in spec.skeleton.limbs]
    assert (about["min_score"], about["min_joint"]) == (DISPLAY_MIN_SCORE, FOUND_JOINT_SCORE)
    assert set(about["skeleton"]["sides"]) == set(about["colours"]) == {"left", "right", "centre"}


def test_an_image_is_answered_with_its_people(ask, photo):
    status, record = answer_of(ask("POST", "/api/infer?name=a%20%3Cb%3E.png", photo))

    assert status == 200
    assert record["schema"] == "bodypose/1"
    assert record["image"] == {"id": "a <b>.png", "width": 64, "height": 48}
    assert record["poses"][0]["num_keypoints"] == 18
    assert list(record["timing_ms"]) == ["request"]


def test_a_text_file_is_answered_with_the_servers_line(ask):
    status, answer = answer_of(ask("POST", "/api/infer?name=notes.txt", b"hello"))

    assert status == 422
    assert answer["problem"] == "It is not a JPEG, PNG, WebP or BMP picture."
    assert answer["detail"].startswith("image: expected JPEG, PNG, WebP or BMP")
    assert "\n" not in answer["detail"]


def test_an_empty_file_is_refused(ask):
    assert answer_of(ask("POST", "/api/infer", b""))[0] == 422


def test_a_body_that_is_too_large_is_refused_after_it_was_sent(ask, monkeypatch):
    monkeypatch.setattr(demo, "_LARGEST_BODY", 1000)

    status, answer = answer_of(ask("POST", "/api/infer", bytes(5_000_000)))

    assert (status, answer["detail"]) == (
        413,
        "image: expected at most 1000 bytes, got 5000000",
    )


def test_posting_elsewhere_is_no_page(ask):
    assert ask("POST", "/api/status", b"x")[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:8088"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
def test_other_sites_may_not_ask(ask, photo, headers):
    assert ask("POST", "/api/infer", photo, **headers)[0] == 403
    assert ask("GET", "/api/status", None, **headers)[0] == 403


def test_the_page_itself_may_ask_under_every_name_of_this_machine(ask, photo):
    for host in ("127.0.0.1:8088", "localhost:9", "[::1]:8088"):
        assert ask("POST", "/api/infer", photo, Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestRejected("image: no"), 422),
        (ServerBusy("here", "queue"), 429),
        (ServerTimeout("here", 1.0), 504),
        (ServerUnavailable("here", "gone"), 503),
    ],
)
def test_every_error_has_its_status(ask, server, photo, error, status):
    ask("GET", "/api/status")
    server.error = error

    assert answer_of(ask("POST", "/api/infer", photo)) == (
        status,
        {"problem": in_words(error), "detail": str(error)},
    )


def test_a_taken_port_is_named(link):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with (
            pytest.raises(DemoPortError, match=f"port {port}: expected a free port, got 'Address"),
            demo_server(DemoApi(link, ""), port),
        ):
            pass


# The link to the pose server


def test_the_server_may_go_away_and_come_back(ask, server, photo):
    assert answer_of(ask("GET", "/api/status"))[1]["up"] is True
    server.away = True
    status, about = answer_of(ask("GET", "/api/status"))
    assert (status, about["up"]) == (200, False)
    assert about["problem"].startswith("No pose server answers at this address.")
    assert about["detail"].startswith("grpc://here: expected a pose server, got 'Connection ref")
    assert answer_of(ask("POST", "/api/infer", photo))[0] == 503

    server.away = False

    assert answer_of(ask("POST", "/api/infer", photo))[0] == 200
    assert answer_of(ask("GET", "/api/status"))[1]["up"] is True


def test_one_client_serves_many_requests(ask, server, photo):
    for _ in range(5):
        ask("POST", "/api/infer", photo)

    assert (server.opened, server.closed) == (1, 0)


def test_a_refused_image_does_not_cost_the_connection(link, server):
    for _ in range(3):
        with pytest.raises(RequestRejected), link.client() as client:
            client.infer(b"hello")

    assert server.opened == 1


def test_a_lost_client_is_closed_when_its_last_user_is_done(link, server):
    with link.client():
        with pytest.raises(ServerUnavailable), link.client():
            raise ServerUnavailable("here", "gone")
        assert (server.opened, server.closed) == (1, 0)

        with link.client():
            assert server.opened == 2
    assert server.closed == 1


def test_many_threads_open_one_client(link, server):
    everybody = threading.Barrier(8)

    def use():
        everybody.wait()
        with link.client() as client:
            assert client.skeleton

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert server.opened == 1


# The split of the time


def done(name, requests, queue_ms, compute_ms):
    return ModelStatistics(name, "1", requests, 0, requests, requests, queue_ms, compute_ms, 0)


def test_time_is_split_over_the_models(ask, server, photo):
    server.statistics = [
        [
            done("bodypose", 10, 9, 9),
            done("bodypose_network", 10, 1, 20),
            done("bodypose_grouping", 10, 0.5, 2),
            done("another", 4, 1, 1),
        ],
        [
            done("bodypose", 11, 9, 9),
            done("bodypose_network", 11, 21 / 11, 240 / 11),
            done("bodypose_grouping", 10, 0.5, 2),  # counts a moment later
            done("another", 4, 1, 1),
        ],
        [
            done("bodypose", 11, 9, 9),
            done("bodypose_network", 11, 21 / 11, 240 / 11),
            done("bodypose_grouping", 11, 6 / 11, 24 / 11),
            done("another", 4, 1, 1),
        ],
    ]

    _, record = answer_of(ask("POST", "/api/infer", photo))

    split = {name: ms for name, ms in record["timing_ms"].items() if name != "request"}
    assert split == {"queue": 12, "bodypose_network": 40, "bodypose_grouping": 4}


def test_a_restarted_server_has_no_split(ask, server, photo):
    server.statistics = [[done("bodypose_network", 10, 1, 20)]] + [
        [done("bodypose_network", 1, 1, 20)] for _ in range(5)
    ]

    _, record = answer_of(ask("POST", "/api/infer", photo))

    assert list(record["timing_ms"]) == ["request"]


def test_a_server_that_forbids_statistics_is_asked_all_the_same(ask, server, photo):
    server.forbids_statistics = True

    status, record = answer_of(ask("POST", "/api/infer", photo))

    assert (status, list(record["timing_ms"])) == (200, ["request"])


# The command


@pytest.fixture
def run(monkeypatch, fake_server, one_person):
    """`pose-client demo ARGS`, ended as by Ctrl-C as soon as it waits for the page."""

    def call(*args):
        def interrupted(self):
            raise KeyboardInterrupt

        monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", interrupted)
        app = typer.Typer()
        app.callback()(lambda: None)
        cli_demo.add_commands(app)
        return CliRunner().invoke(app, ["demo", *args], obj=fake_server(one_person))

    return call


def test_the_command_says_where_the_page_is(run, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)

    result = run("--port", "0", "--open")

    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        r"page    (http://127\.0\.0\.1:\d+)\n"
        r"server  grpc://127\.0\.0\.1:8001/bodypose\n"
        r"ready; Ctrl-C stops it\n",
        result.stdout,
    )
    assert opened == [result.stdout.split()[1]]


def test_a_wrong_url_is_a_usage_error(run):
    assert run("--url", "ftp://x").exit_code == 2


# Requests that no browser sends


@pytest.fixture
def raw(link, capsys):
    """Bytes sent to the page's server, and all that it answers until it hangs up."""
    with demo_server(DemoApi(link, "grpc://here"), 0) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()

        def call(request):
            with socket.create_connection(running.server_address[:2], timeout=10) as sock:
                sock.sendall(request)
                sock.shutdown(socket.SHUT_WR)
                answer = b""
                while part := sock.recv(65536):
                    answer += part
            return answer

        yield call
        running.shutdown()
        thread.join()
    assert "Traceback" not in capsys.readouterr().err


def request_of(line, *headers, body=b""):
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1") + body


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("host", ["[::1", "[", "a]b", "\xaa[::"])
def test_a_broken_host_is_a_bad_request(raw, method, host):
    answer = raw(request_of(f"{method} / HTTP/1.1", f"Host: {host}", "Content-Length: 0"))

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))


@pytest.mark.parametrize("target", ["http://[::1/x", "//[::1/x", "http://[/", "*"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_broken_target_is_refused(raw, method, target):
    line = f"{method} {target} HTTP/1.1"

    answer = raw(request_of(line, "Host: localhost", "Content-Length: 0"))

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))


@pytest.mark.parametrize(
    "lengths",
    [[], ["abc"], ["-1"], ["+5"], ["\xb2"], ["5, 5"], ["9" * 5000], ["1e3"], [""], ["5", "6"]],
)
def test_an_odd_content_length_is_refused_in_one_line(raw, lengths):
    headers = [f"Content-Length: {length}" for length in lengths]

    answer = raw(request_of("POST /api/infer HTTP/1.1", "Host: localhost", *headers))

    assert answer.startswith(b"HTTP/1.1 422")
    assert b"expected one Content-Length" in answer
    assert b"Connection: close" in answer


@pytest.mark.parametrize(
    "line", ["POST /nope HTTP/1.1", "GET / HTTP/1.1", "GET /nope HTTP/1.1", "POST /x HTTP/1.1"]
)
@pytest.mark.parametrize("host", ["localhost", "elsewhere.example"])
def test_a_body_is_never_read_as_a_second_request(raw, line, host):
    body = request_of("GET /api/status HTTP/1.1", "Host: localhost")

    answer = raw(request_of(line, f"Host: {host}", f"Content-Length: {len(body)}", body=body))

    assert answer.count(b"HTTP/1.1 ") == 1
