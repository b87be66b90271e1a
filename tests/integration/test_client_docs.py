"""Every snippet of docs/client.md, run as it stands against a real server."""

import json
import re
import shutil

import cv2
import numpy as np
import pytest

import bodypose_client.errors
from bodypose_client.pose_client import PoseClient
from bodypose_client.video.files import open_video
from pose_runtime.errors import PoseError
from tests.pages import ROOT, Desk, blocks

pytestmark = pytest.mark.triton

PAGE = ROOT / "docs" / "client.md"
TEXT = PAGE.read_text()
SNIPPETS = blocks(PAGE)


def of_language(language):
    return [body for name, body in SNIPPETS if name == language]


def numbered(language):
    bodies = of_language(language)
    return pytest.mark.parametrize(
        "body", bodies, ids=[f"{language}-{number}" for number in range(1, len(bodies) + 1)]
    )


@pytest.fixture
def desk(tmp_path, server):
    """A folder with what the page speaks of: photo.jpg, photos/ and walk.mp4."""
    skimage = pytest.importorskip("skimage.data", reason="needs scikit-image: extra `demo`")
    astronaut = cv2.cvtColor(np.asarray(skimage.astronaut()), cv2.COLOR_RGB2BGR)
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/one.jpg", "photos/two.jpg"):
        assert cv2.imwrite(str(tmp_path / name), astronaut)
    with open_video(tmp_path / "walk.mp4", 25) as video:
        for number in range(8):
            video.write(astronaut[:256, number : number + 256, ::-1], number / 25)
    return Desk(tmp_path, server.grpc_url, server.http_url)


def test_the_page_has_every_kind_of_snippet():
    assert {name for name, _ in SNIPPETS} == {"python", "sh", "js", "json"}


@numbered("python")
def test_python(desk, body):
    assert desk.run("python", body) or "write_picture" in body


@numbered("sh")
def test_shell(desk, body):
    if "curl" in body and not shutil.which("curl"):
        pytest.skip("needs curl: run `apt-get install curl`")

    desk.run("sh", body)

    for made in set(re.findall(r"(?:-o|--output|--jsonl|--visualize|>) ([\w.]+)", body)):
        made = desk.folder / made
        assert made.is_dir() or made.stat().st_size > 0, made


@numbered("js")
def test_javascript(desk, body):
    if not shutil.which("node"):
        pytest.skip("needs node 18 or newer: run `apt-get install nodejs`")

    said = desk.run("js", body)

    assert said.startswith("0.")


def test_the_curl_answers_hold_people(desk):
    for body in of_language("sh"):
        if "curl" in body:
            desk.run("sh", body)

    outputs = {
        out["name"]: out for out in json.loads((desk.folder / "answer.json").read_text())["outputs"]
    }
    assert outputs["num_people"]["data"] == [1]
    assert b'"num_people"' in (desk.folder / "answer.bin").read_bytes()


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
        record = client.infer(desk.folder / "photo.jpg").to_json()

    assert shape_of(json.loads(example)) == shape_of(record)


def test_every_error_is_on_the_page():
    tree = [
        error
        for error in vars(bodypose_client.errors).values()
        if isinstance(error, type) and issubclass(error, PoseError) and error is not PoseError
    ]

    missing = [error.__name__ for error in tree if f"`{error.__name__}`" not in TEXT]

    assert not missing
