"""The demo's small web server on loopback: it hands out the page and asks the pose server."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from bodypose_client.errors import (
    ClientError,
    RateLimited,
    RequestRejected,
    ServerBusy,
    ServerTimeout,
)
from bodypose_client.formats import DISPLAY_MIN_SCORE, image_record
from bodypose_client.pictures.examples import EXAMPLES
from bodypose_client.pictures.sides import Side, joint_sides
from bodypose_client.pose_client import PoseClient
from pose_runtime.errors import PoseError
from pose_runtime.poses import FOUND_JOINT_SCORE
from pose_runtime.spec import ImageLimits

from .link import ServerLink
from .steps import timed_by_model
from .words import in_words

HOST = "127.0.0.1"
_PAGE = Path(__file__).with_name("page")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
_OUR_NAMES = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' blob:; media-src 'self' blob:; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_LARGEST_BODY = ImageLimits().max_bytes
_LENGTH = re.compile(r"[0-9]{1,15}")  # int() takes signs, blanks and other scripts' digits, too
_CHUNK = 2**20
_IDLE_S = 60


class DemoPortError(PoseError):
    """The page cannot be served where it was asked to be."""


class _TooLarge(PoseError):
    """More bytes than an image may have."""


# What the browser learns from the status besides the words; the first match counts.
_STATUS = {
    _TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    RequestRejected: HTTPStatus.UNPROCESSABLE_ENTITY,
    ServerBusy: HTTPStatus.TOO_MANY_REQUESTS,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    ServerTimeout: HTTPStatus.GATEWAY_TIMEOUT,
    ClientError: HTTPStatus.SERVICE_UNAVAILABLE,  # the page waits until the server is back
    PoseError: HTTPStatus.UNPROCESSABLE_ENTITY,
}


@dataclass(frozen=True, slots=True)
class DemoApi:
    """What the page may ask, as JSON values."""

    link: ServerLink
    url: str

    def status(self) -> dict[str, Any]:
        """Whether the pose server is there, and what the page must know about its model."""
        try:
            self.link.check()
            with self.link.client() as client:
                return {"up": True, "url": self.url, **_about(client)}
        except ClientError as error:
            return {"up": False, "url": self.url, **_told(error)}

    def infer(self, data: bytes, name: str) -> dict[str, Any]:
        """The people of one encoded image as `bodypose/1`, with the split of the time.

        Raises:
            PoseError: the server is away, or does not accept the image.
        """
        with self.link.client() as client:
            poses, split_ms = timed_by_model(client, partial(client.infer, data))
            image = replace(poses.image, id=name)
            return image_record(poses, image, client.model, {**poses.timing_ms, **split_ms})


def _about(client: PoseClient) -> dict[str, Any]:
    skeleton = client.skeleton
    return {
        "server": _server(client),
        "model": asdict(client.model),
        "skeleton": {
            "name": skeleton.name,
            "joints": skeleton.joints,
            "limbs": skeleton.limbs,
            "mirror": skeleton.mirror,
            "sides": [side.name.lower() for side in joint_sides(skeleton)],
        },
        "colours": {side.name.lower(): side.value for side in Side},
        "min_score": DISPLAY_MIN_SCORE,
        "min_joint": FOUND_JOINT_SCORE,
        "max_bytes": client.spec.limits.max_bytes,
    }


def _server(client: PoseClient) -> dict[str, str]:
    try:
        server = client.inspect()
    except ClientError:  # forbidden, or no Triton
        return {"name": "", "version": ""}
    return {"name": server.name, "version": server.version}


def _told(error: PoseError) -> dict[str, str]:
    return {"problem": in_words(error), "detail": str(error)}


@contextlib.contextmanager
def demo_server(api: DemoApi, port: int) -> Iterator[ThreadingHTTPServer]:
    """The page's server, listening on loopback; `serve_forever()` answers.

    Args:
        api: answers the page.
        port: 0 means any free one.

    Raises:
        DemoPortError: the port is taken.
    """
    files = {f"/{file.name}": file for file in _PAGE.iterdir() if file.suffix in _TYPES}
    files |= {f"/examples/{file.name}": file for file in EXAMPLES.values()}
    handler = type("Handler", (_Handler,), {"api": api, "files": files})
    try:
        server = _Server((HOST, port), handler)
    except OSError as error:
        raise DemoPortError(
            f"port {port}: expected a free port, got {(error.strerror or str(error))!r}; stop what"
            " listens there or pass `--port`"
        ) from error
    with server:
        yield server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # an open browser tab does not keep the command from ending

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is not reported; anything else keeps its traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    api: DemoApi
    files: dict[str, Path]
    protocol_version = "HTTP/1.1"
    server_version = "pose-client-demo"
    sys_version = ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        parts = self._ours()
        if parts is None:
            return
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # a body that nobody reads would be the next request
        if parts.path == "/api/status":
            self._say(HTTPStatus.OK, self.api.status())
            return
        file = self.files.get("/index.html" if parts.path == "/" else parts.path)
        if file is None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
            return
        self._send(HTTPStatus.OK, _TYPES[file.suffix], file.read_bytes())

    def do_POST(self) -> None:
        parts = self._ours()
        if parts is None:
            return
        if parts.path != "/api/infer":
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
            return
        name = parse_qs(parts.query).get("name", ["image"])[0]
        try:
            self._say(HTTPStatus.OK, self.api.infer(self._body(), name))
        except PoseError as error:
            status = next(_STATUS[kind] for kind in _STATUS if isinstance(error, kind))
            self._say(status, _told(error))

    def _ours(self) -> SplitResult | None:
        """What is asked for; None after a refusal.

        Only this page may ask: no other site, and no name that merely resolves to loopback.
        """
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        try:
            asked, name = urlsplit(self.path), urlsplit(f"//{host}").hostname
        except ValueError:  # such as half of an IPv6 address
            self._refuse(HTTPStatus.BAD_REQUEST, f"expected an address such as http://{HOST}")
            return None
        if name in _OUR_NAMES and origin in (None, f"http://{host}"):
            return asked
        self._refuse(HTTPStatus.FORBIDDEN, f"expected http://{HOST}, got {origin or host}")
        return None

    def _body(self) -> bytes:
        given = self.headers.get_all("Content-Length", [])
        if len(given) != 1 or not _LENGTH.fullmatch(given[0]):
            self.close_connection = True
            got = ", ".join(given)[:40] or "none"
            raise RequestRejected(f"image: expected one Content-Length, got {got}")
        length = int(given[0])
        if length > _LARGEST_BODY:
            self._skip(length)  # a browser hears the answer only after it has sent everything
            raise _TooLarge(f"image: expected at most {_LARGEST_BODY} bytes, got {length}")
        return self.rfile.read(length)

    def _skip(self, length: int) -> None:
        while length > 0 and (chunk := self.rfile.read(min(length, _CHUNK))):
            length -= len(chunk)

    def _refuse(self, status: HTTPStatus, problem: str) -> None:
        """The last answer on this connection: whatever body comes with the request is not read."""
        self.close_connection = True
        self._say(status, {"problem": problem, "detail": ""})

    def _say(self, status: HTTPStatus, value: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(value).encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the page shows what happens."""
