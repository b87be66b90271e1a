"""Decoding that is ended at its limit: what is not surely quick goes to a process of its own.

A thread that decodes cannot be stopped; a process can. It is started anew when it was ended. It
runs this module from the same folder, as a fresh interpreter: a fork of Triton's Python stub would
inherit locks that other threads hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .card_jpeg import for_card, pack_pixels
from .errors import BeyondLimit, DamagedImage, ImageError, PoseError
from .image_headers import EncodedImage, checked_image
from .images import Pixels, checked_pixels, network_pixels
from .letterbox import Letterbox
from .spec import ImageLimits

_START_TIMEOUT_S = 60.0
# -I: nothing from the environment or the current folder; -S: no search for packages, which lie
# where this process has its own; -B: the folder stays as it was built.
_OPTIONS = ("-I", "-S", "-B")
_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:];"
    f"from {__package__.rpartition('.')[2]}.decode_process import serve; serve(*sys.argv[1:3])"
)
# Until who asks gives up, on a machine that is busy with other things; in units of the limit, which
# is time of a processor.
_PATIENCE = 4
_READY, _PIXELS, _REFUSED = b"r", b"p", b"e"
_HEAD = struct.Struct("=cQ")  # what comes, and its bytes
# The dearest by far: a progressive JPEG's coefficients, or 16 bits of 4 channels, and 3 copies of
# 3 bytes: decoded, as RGB, upright.
_BYTES_PER_PIXEL, _SPARE_BYTES = 24, 256 * 2**20


class BoundedDecoder:
    """`network_pixels` in bounded time, whatever the bytes are."""

    def __init__(self, network_hw: tuple[int, int], limits: ImageLimits) -> None:
        """Start the process, and wait until it can decode.

        Raises:
            DecodeProcessError: it does not start.
        """
        self._network_hw = network_hw
        self._limits = limits
        self._process = _DecodeProcess(network_hw, limits)
        self._process.wait_until_ready()

    def network_pixels(self, data: bytes) -> tuple[Pixels, Letterbox]:
        """As `images.network_pixels`.

        Raises:
            ImageError: as there, or decoding took longer than `max_decode_ms`.
            DecodeProcessError: the process that was started anew does not start.
        """
        return self.checked_pixels(checked_image(data, self._limits))

    def checked_pixels(self, image: EncodedImage) -> tuple[Pixels, Letterbox]:
        """`network_pixels` of an image whose limits were checked."""
        if image.is_quick:
            return checked_pixels(image, self._network_hw)
        letterbox = Letterbox.fit(image.header.upright_hw, self._network_hw)
        return self._decode_elsewhere(image), letterbox

    def packed_for_card(self, data: bytes) -> tuple[bytes, Letterbox]:
        """What a network that decodes on a GPU takes: a JPEG for it, else `network_pixels`.

        Raises:
            ImageError, DecodeProcessError: as `network_pixels`.
        """
        image = checked_image(data, self._limits)
        if jpeg := for_card(image, self._network_hw):
            return jpeg.pack(), Letterbox.fit(jpeg.upright_hw, self._network_hw)
        pixels, letterbox = self.checked_pixels(image)
        return pack_pixels(pixels), letterbox

    def close(self) -> None:
        self._process.kill()

    def _decode_elsewhere(self, image: EncodedImage) -> Pixels:
        limit_ms = self._limits.max_decode_ms
        self._process.wait_until_ready()
        try:
            kind, content = self._process.ask(image.data, _PATIENCE * limit_ms / 1e3)
        except OSError as error:  # TimeoutError and ConnectionError among them
            ended_by = self._process.kill()
            self._process = _DecodeProcess(self._network_hw, self._limits)  # while others are quick
            what = f"{image.header}, {len(image.data)} bytes, which"
            if isinstance(error, TimeoutError) or ended_by == signal.SIGPROF:
                limit = f"at most {limit_ms} ms of decoding"
                raise BeyondLimit("max_decode_ms", limit, f"{what} took longer") from error
            raise DamagedImage(
                "an image that decodes", f"{what} ended the process that decodes"
            ) from error
        if kind == _REFUSED:
            raise DamagedImage(*json.loads(content))
        return np.frombuffer(content, np.uint8).reshape(*self._network_hw, 3)


class DecodeProcessError(PoseError):
    """The process for images that may take long does not start."""


class _DecodeProcess:
    """One run of `serve`, which ends with this process, however that ends."""

    def __init__(self, network_hw: tuple[int, int], limits: ImageLimits) -> None:
        self._is_ready = False
        program = _interpreter()
        self._socket, theirs = socket.socketpair()
        settings = json.dumps({"network_hw": network_hw, "limits": asdict(limits)})
        folder = str(Path(__file__).parents[1])
        with theirs:
            command = [program, *_OPTIONS, "-c", _PROGRAM, str(theirs.fileno()), settings]
            try:
                self._process = subprocess.Popen(
                    [*command, folder, *sys.path],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as error:
                self._socket.close()
                raise DecodeProcessError(
                    f"decoding: expected a process for large images, got {error}"
                ) from error

    def wait_until_ready(self) -> None:
        """Raises: DecodeProcessError: it ended, or took too long."""
        if self._is_ready:
            return
        try:
            self._socket.settimeout(_START_TIMEOUT_S)
            self._is_ready = _receive(self._socket)[0] == _READY
        except OSError as error:
            self.kill()
            raise DecodeProcessError(
                f"decoding: expected a process for large images that starts, got {error!r}"
            ) from error

    def ask(self, data: bytes, timeout_s: float) -> tuple[bytes, bytearray]:
        """Raises: OSError: `TimeoutError` among them; the process is of no use any more."""
        deadline = time.monotonic() + timeout_s
        self._socket.settimeout(timeout_s)
        self._socket.sendall(_HEAD.pack(_PIXELS, len(data)))
        self._socket.sendall(data)
        return _receive(self._socket, deadline)

    def kill(self) -> int:
        """The signal that ended it: this one, unless it had ended before."""
        self._process.kill()
        self._socket.close()
        return -self._process.wait()


def serve(descriptor: str, settings: str) -> None:
    """Decode until the other end of the socket is closed.

    Args:
        descriptor: of the socket.
        settings: network_hw and limits, JSON.
    """
    chosen: dict[str, Any] = json.loads(settings)
    network_hw = tuple(chosen["network_hw"])
    chosen["limits"]["formats"] = tuple(chosen["limits"]["formats"])
    limits = ImageLimits(**chosen["limits"])
    checked = replace(limits, max_decode_ms=sys.maxsize)  # here the clock decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)  # the end
    _bound_memory(limits)
    with socket.socket(fileno=int(descriptor)) as asked, contextlib.suppress(ConnectionError):
        asked.sendall(_HEAD.pack(_READY, 0))
        while True:
            _, data = _receive(asked)
            with _limited_to(limits.max_decode_ms / 1e3):
                kind, content = _answer(bytes(data), network_hw, checked)
            asked.sendall(_HEAD.pack(kind, len(content)))
            asked.sendall(content)


@contextlib.contextmanager
def _limited_to(processor_s: float) -> Iterator[None]:
    """Whatever runs inside, the kernel ends this process after so much time of a processor.

    And some time after who asked has given up, in case that it was killed itself.
    """
    signal.setitimer(signal.ITIMER_PROF, processor_s)
    signal.setitimer(signal.ITIMER_REAL, 2 * _PATIENCE * processor_s)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(data: bytes, network_hw: tuple[int, int], limits: ImageLimits) -> tuple[bytes, bytes]:
    try:
        pixels, _ = network_pixels(data, network_hw, limits)
    except ImageError as error:
        return _REFUSED, json.dumps([error.expected, error.got]).encode()
    except MemoryError:
        got = f"{len(data)} bytes that need more memory than that"
        return _REFUSED, json.dumps(["an image of its size", got]).encode()
    return _PIXELS, pixels.tobytes()


def _receive(source: socket.socket, deadline: float | None = None) -> tuple[bytes, bytearray]:
    """Raises: OSError: `TimeoutError` at the deadline, `ConnectionError` at the other's end."""
    kind, size = _HEAD.unpack(_receive_exactly(source, _HEAD.size, deadline))
    return kind, _receive_exactly(source, size, deadline)


def _receive_exactly(source: socket.socket, size: int, deadline: float | None) -> bytearray:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        if deadline is not None:
            source.settimeout(max(1e-3, deadline - time.monotonic()))
        count = source.recv_into(view)
        if not count:
            raise ConnectionResetError("the other end was closed")
        view = view[count:]
    return content


def _bound_memory(limits: ImageLimits) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + limits.max_pixels * _BYTES_PER_PIXEL + _SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _interpreter() -> str:
    """The program of this very Python, which Triton's stub only has as a library."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders = [Path(prefix) / "bin" for prefix in (sys.prefix, sys.base_prefix)]
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    for folder in (*map(str, folders), os.environ.get("PATH", "")):
        if found := shutil.which(name, path=folder):
            return found
    raise DecodeProcessError(
        f"decoding: expected the program {name} in {', '.join(map(str, folders))} or on the PATH,"
        " got none"
    )
