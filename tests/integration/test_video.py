"""`pose-client video` in its own process against a real server: whole, and broken off by Ctrl-C."""

import json
import signal
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest

from bodypose_client.video.files import open_source, open_video

pytestmark = pytest.mark.triton

MAIN = "from bodypose_client.cli import main; main()"
SIZE_HW = (95, 128)  # odd, so that a line is added


def write_walk(path, frames):
    """The brighter a frame, the farther right the tiny network sees its person."""
    with open_video(path, Fraction(25)) as video:
        for number in range(frames):
            video.write(np.full((*SIZE_HW, 3), 2 + number % 20, np.uint8), number / 25)
    return path


def start(url, *options):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, "video", *map(str, options), "--url", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(params=["grpc", "http"])
def url(request, server):
    return f"{request.param}://{getattr(server, f'{request.param}_url')}"


def test_a_video_goes_through_the_server(url, tmp_path):
    walk, out, lines = write_walk(tmp_path / "walk.mp4", 20), tmp_path / "o.mp4", tmp_path / "o"

    with start(url, walk, "-o", out, "--jsonl", lines, "--track") as command:
        said, complained = command.communicate(timeout=60)

    assert (command.returncode, complained) == (0, "")
    assert said.startswith("walk.mp4: 20 frames with 20 people")
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [record["frame"] for record in records] == list(range(20))
    assert {person["id"] for record in records for person in record["poses"]} == {1}
    noses = [record["poses"][0]["keypoints"][0][0] for record in records]
    assert noses[10] > noses[0] + 5
    with open_source(str(out)) as source:
        assert [frame.pixels.shape for frame in source.frames] == [(96, 128, 3)] * 20


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_leaves_a_whole_video(server, tmp_path):
    walk, out, lines = write_walk(tmp_path / "walk.mp4", 1500), tmp_path / "o.mp4", tmp_path / "o"

    with start(f"grpc://{server.grpc_url}", walk, "-o", out, "--jsonl", lines) as command:
        deadline = time.monotonic() + 60
        while not (lines.exists() and lines.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        command.send_signal(signal.SIGINT)
        said, complained = command.communicate(timeout=60)

    assert (command.returncode, complained) == (130, "")
    done = len(lines.read_text().splitlines())
    assert 0 < done < 1500
    assert said.startswith(f"walk.mp4: {done} frames")
    with open_source(str(out)) as source:
        assert sum(1 for _ in source.frames) == done
