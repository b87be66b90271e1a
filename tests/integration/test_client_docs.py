"""Every snippet of docs/client.md, run as it stands against a real server."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import bodypose_client.errors
from bodypose_client.pose_client import PoseClient
from bodypose_client.video.files import open_video
from pose_runtime.errors import PoseError

pytestmark = pytest.mark.triton

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
TEXT = PAGE.read_text()
SNIPPETS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.M | re.S)
NEEDS = {"js": "node", "sh": "curl"}
TIMEOUT_S = 120
# `pose-client` with the test server's addresses as defaults; `demo` gets its Ctrl-C by itself.
COMMAND = """#!{python}
import os, signal, sys, threading
from bodypose_client.wire.address import DEFAULT_URLS, Protocol
DEFAULT_URLS[Protocol.GRPC] = "grpc://{grpc}"
DEFAULT_URLS[Protocol.HTTP] = "http://{http}"
from bodypose_client.cli import main
if sys.argv[1] == "demo":
    sys.argv += ["--port", "0"]
    threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
main()
"""


def of_language(language):
    return [body for name, body in SNIPPETS if name == language]


def numbered(language):
    bodies = of_language(language)
    return pytest.mark.parametrize(
        "body", bodies, ids=[f"{language}-{number}" for number in range(1, len(bodies) + 1)]
    )


@pytest.fixture
def desk(tmp_path, server, monkeypatch):
    """A folder with what the page speaks of: photo.jpg, photos/, walk.mp4 and `pose-client`."""
    skimage = pytest.importorskip("skimage.data", reason="needs scikit-image: extra `demo`")
    astronaut = cv2.cvtColor(np.asarray(skimage.astronaut()), cv2.COLOR_RGB2BGR)
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.jpg"):
        assert cv2.imwrite(str(tmp_path / name), astronaut)
    with open_video(tmp_path / "walk.mp4", 25) as video:
        for number in range(8):
            video.write(astronaut[:256, number : number + 256, ::-1], number / 25)
    command = tmp_path / "bin" / "pose-client"
    command.parent.mkdir()
    command.write_text(
        COMMAND.format(python=sys.executable, grpc=server.grpc_url, http=server.http_url)
    )
    command.chmod(0o755)
    python = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join((str(command.parent), python, os.environ["PATH"])))
    return tmp_path


@pytest.fixture
def run(desk, server):
    """Run a program in that folder; its output. Its addresses become the test server's."""

    def call(program, text):
        text = text.replace("127.0.0.1:8001", server.grpc_url)
        text = text.replace("127.0.0.1:8000", server.http_url)
        text = text.replace("PoseClient()", f'PoseClient("grpc://{server.grpc_url}")')
        done = subprocess.run(
            [*program, text], cwd=desk, capture_output=True, text=True, timeout=TIMEOUT_S
        )
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout

    return call


def test_the_page_has_every_kind_of_snippet():
    assert {name for name, _ in SNIPPETS} == {"python", "sh", "js", "json"}


@numbered("python")
def test_python(run, body):
    assert run([sys.executable, "-c"], body) or "write_picture" in body


@numbered("sh")
def test_shell(run, body, desk):
    if "curl" in body and not shutil.which("curl"):
        pytest.skip("needs curl: run `apt-get install curl`")

    run(["bash", "-euo", "pipefail", "-c"], body)

    for made in set(re.findall(r"(?:-o|--output|--jsonl|--visualize|>) ([\w.]+)", body)):
        made = desk / made
        assert made.is_dir() or made.stat().st_size > 0, made


@numbered("js")
def test_javascript(run, body):
    if not shutil.which("node"):
        pytest.skip("needs node 18 or newer: run `apt-get install nodejs`")

    said = run(["node", "--input-type=module", "--eval"], body)

    assert said.startswith("0.")


def test_the_curl_answers_hold_people(run, desk):
    for body in of_language("sh"):
        if "curl" in body:
            run(["bash", "-euo", "pipefail", "-c"], body)

    outputs = {
        out["name"]: out for out in json.loads((desk / "answer.json").read_text())["outputs"]
    }
    assert outputs["num_people"]["data"] == [1]
    assert b'"num_people"' in (desk / "answer.bin").read_bytes()


def shape_of(value):
    """The keys of a JSON value, and of what lies in it."""
    if isinstance(value, dict):
        return {key: shape_of(inner) for key, inner in value.items()}
    if isinstance(value, list) and value:
        return [shape_of(value[0])]
    return type(value).__name__


def test_the_example_record_has_the_shape_of_a_real_one(server, desk):
    (example,) = of_language("json")
    with PoseClient(f"grpc://{server.grpc_url}") as client:
        record = client.infer(desk / "photo.jpg").to_json()

    assert shape_of(json.loads(example)) == shape_of(record)


def test_every_error_is_on_the_page():
    tree = [
        error
        for error in vars(bodypose_client.errors).values()
        if isinstance(error, type) and issubclass(error, PoseError) and error is not PoseError
    ]

    missing = [error.__name__ for error in tree if f"`{error.__name__}`" not in TEXT]

    assert not missing
