"""Decoding that is ended at its limit, in a process that is started anew and never stays behind."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest

from pose_runtime import decode_process, image_headers
from pose_runtime.decode_process import BoundedDecoder, DecodeProcessError
from pose_runtime.errors import BeyondLimit, DamagedImage, UnknownFormat
from pose_runtime.images import network_pixels
from pose_runtime.spec import ImageLimits
from tests.fuzz import hostile_images

HW = (32, 48)
ROOT = Path(__file__).parents[3]
PHOTO = hostile_images.encoded("jpg", hostile_images.noise(64))
LARGE = hostile_images.encoded("png", hostile_images.noise(256))


@pytest.fixture
def decoder(monkeypatch) -> Iterator[BoundedDecoder]:
    """Nothing but the photo is expected to be quick."""
    quick = len(PHOTO)
    monkeypatch.setattr(
        image_headers,
        "_checked_decode_ms",
        lambda data, header, limit: 0.0 if len(data) <= quick else limit * 0.9,
    )
    running = BoundedDecoder(HW, ImageLimits(max_decode_ms=150))
    yield running
    running.close()


def processes_of(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in path.read_text().split() if "decode_process" in command_of(pid)]


def command_of(pid: int | str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def too_slow() -> bytes:
    """Half a second and more of decoding in 0.1 MB."""
    jpeg = hostile_images.progressive(np.full((2000, 2000, 3), 90, np.uint8))
    return hostile_images.with_standalone_markers(jpeg, 200)


def test_what_may_take_long_is_the_same_to_the_bit(decoder):
    for data in (LARGE, hostile_images.progressive(hostile_images.noise(300))):
        pixels, letterbox = decoder.network_pixels(data)
        expected, expected_letterbox = network_pixels(data, HW, ImageLimits())
        assert (pixels == expected).all()
        assert letterbox == expected_letterbox


def test_what_takes_too_long_is_ended_and_the_next_one_answered(decoder):
    for _ in range(2):
        with pytest.raises(BeyondLimit, match=r"at most 150 ms .*which took longer") as caught:
            decoder.network_pixels(too_slow())
        assert caught.value.reason == "max_decode_ms"
        assert decoder.network_pixels(LARGE)[0].shape == (*HW, 3)


def test_a_process_that_answers_nothing_is_ended_too(decoder):
    decoder.network_pixels(LARGE)
    (child,) = processes_of(os.getpid())
    os.kill(child, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(BeyondLimit, match="which took longer"):
        decoder.network_pixels(LARGE)
    assert time.monotonic() - started < 4 * 0.150 + 2
    assert child not in processes_of(os.getpid())
    assert decoder.network_pixels(LARGE)[0].shape == (*HW, 3)


def test_a_quick_image_needs_no_process(decoder):
    for child in processes_of(os.getpid()):
        os.kill(child, signal.SIGKILL)
    assert (decoder.network_pixels(PHOTO)[0] == network_pixels(PHOTO, HW, ImageLimits())[0]).all()


def test_an_image_that_ends_the_process_fails_alone(decoder):
    (child,) = processes_of(os.getpid())
    os.kill(child, signal.SIGSEGV)
    with pytest.raises(DamagedImage, match="which ended the process that decodes"):
        decoder.network_pixels(LARGE)
    assert decoder.network_pixels(LARGE)[0].shape == (*HW, 3)


def test_what_is_refused_there_has_the_same_words(decoder):
    cut = LARGE[:3000] + bytes(len(LARGE) - 3012) + LARGE[-12:]
    for data in (cut, b"GIF89a" + bytes(10**5)):
        with pytest.raises((DamagedImage, UnknownFormat)) as caught:
            decoder.network_pixels(data)
        with pytest.raises(type(caught.value)) as expected:
            network_pixels(data, HW, ImageLimits())
        assert str(caught.value) == str(expected.value)


def test_its_memory_is_bounded_by_what_the_largest_image_needs(decoder):
    (child,) = processes_of(os.getpid())
    decoder.network_pixels(LARGE)
    limits = Path(f"/proc/{child}/limits").read_text()
    most = int(next(line for line in limits.splitlines() if "address space" in line).split()[3])
    assert most < ImageLimits().max_pixels * 24 + 2**31
    decoder.close()
    assert processes_of(os.getpid()) == []


def test_the_process_ends_with_the_one_that_started_it():
    program = (
        "import os, sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pose_runtime.decode_process import BoundedDecoder\n"
        "from pose_runtime.spec import ImageLimits\n"
        "decoder = BoundedDecoder((32, 48), ImageLimits())\n"
        "print('started', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, ROOT], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        (child,) = processes_of(parent.pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while "decode_process" in command_of(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "decode_process" not in command_of(child)


def test_a_process_that_does_not_start_is_one_line(monkeypatch):
    monkeypatch.setattr(decode_process, "_interpreter", lambda: "/bin/false")
    with pytest.raises(DecodeProcessError, match="expected a process for large images") as caught:
        BoundedDecoder(HW, ImageLimits())
    assert "\n" not in str(caught.value)


def test_without_an_interpreter_the_folders_are_named(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    monkeypatch.setattr(sys, "base_prefix", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DecodeProcessError, match=r"python3\.\d+ in /nowhere/bin"):
        BoundedDecoder(HW, ImageLimits())


class Process:
    """What a process for large images does, without one."""

    asked: ClassVar[list[float]] = []
    error: BaseException | None = None
    ended_by = signal.SIGKILL

    def __init__(self, *settings: object) -> None:
        pass

    def wait_until_ready(self) -> None:
        pass

    def ask(self, data: bytes, timeout_s: float) -> tuple[bytes, bytes]:
        self.asked.append(timeout_s)
        if self.error is not None:
            raise self.error
        return b"p", bytes(32 * 48 * 3)

    def kill(self) -> int:
        return self.ended_by


@pytest.fixture
def process(monkeypatch) -> type[Process]:
    kind = type("OneProcess", (Process,), {"asked": []})
    monkeypatch.setattr(decode_process, "_DecodeProcess", kind)
    monkeypatch.setattr(image_headers, "_checked_decode_ms", lambda data, header, limit: limit)
    return kind


def test_an_answer_is_waited_for_four_times_as_long_as_decoding_may_take(process):
    decoder = BoundedDecoder(HW, ImageLimits(max_decode_ms=150))
    assert not decoder.network_pixels(LARGE)[0].any()
    assert process.asked == [pytest.approx(0.6, rel=1e-9)]


@pytest.mark.parametrize(
    ("error", "ended_by", "kind", "words"),
    [
        (TimeoutError(), signal.SIGKILL, BeyondLimit, "at most 150 ms of decoding .*took longer"),
        (ConnectionResetError(), signal.SIGPROF, BeyondLimit, "bytes, which took longer"),
        (ConnectionResetError(), signal.SIGSEGV, DamagedImage, "which ended the process"),
        (BrokenPipeError(), signal.SIGKILL, DamagedImage, "got PNG of 256 x 256, .* bytes, which"),
    ],
)
def test_how_a_process_ended_says_what_was_wrong(process, error, ended_by, kind, words):
    decoder = BoundedDecoder(HW, ImageLimits(max_decode_ms=150))
    process.error, process.ended_by = error, ended_by
    with pytest.raises(kind, match=words):
        decoder.network_pixels(LARGE)


def test_a_process_that_is_killed_says_by_what(decoder):
    assert decoder._process.kill() == signal.SIGKILL


def test_the_clock_of_the_processor_ends_decoding_and_the_other_one_all(monkeypatch):
    """Twice the time that an answer is waited for; neither goes on behind the work."""
    set_to = []
    monkeypatch.setattr(signal, "setitimer", lambda which, seconds: set_to.append((which, seconds)))
    with decode_process._limited_to(0.15):
        assert set_to == [
            (signal.ITIMER_PROF, 0.15),
            (signal.ITIMER_REAL, pytest.approx(8 * 0.15)),
        ]
    assert set_to[2:] == [(signal.ITIMER_PROF, 0), (signal.ITIMER_REAL, 0)]


def test_memory_is_what_there_is_and_24_bytes_a_pixel_and_256_mib(monkeypatch):
    bounds = {}
    monkeypatch.setattr(resource, "setrlimit", lambda kind, most: bounds.update({kind: most}))
    before = psutil.Process().memory_info().vms
    decode_process._bound_memory(ImageLimits(max_pixels=1_000_000))
    least, most = bounds[resource.RLIMIT_AS]
    assert least == most
    assert most - 24_000_000 - 256 * 2**20 == pytest.approx(before, abs=32 * 2**20)
    assert bounds[resource.RLIMIT_CORE] == (0, 0)


def test_a_message_may_come_in_parts_until_its_deadline():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(decode_process._HEAD.pack(b"p", 5) + b"ab")
        threading.Timer(0.05, theirs.sendall, [b"cde"]).start()
        assert decode_process._receive(ours, time.monotonic() + 30) == (b"p", b"abcde")
        with pytest.raises(TimeoutError):
            decode_process._receive(ours, time.monotonic() - 1)
        theirs.close()
        with pytest.raises(ConnectionResetError, match="the other end was closed"):
            decode_process._receive(ours)
