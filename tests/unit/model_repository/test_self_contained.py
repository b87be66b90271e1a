"""A built repository needs nothing of this checkout: each model.py runs on its own folder."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from google.protobuf import json_format
from numpy.typing import NDArray

from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import GROUPING, NETWORK, PREPROCESS, STEPS, read_config
from pose_runtime.letterbox import Letterbox
from pose_runtime.spec import PipelineSpec

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
STUBS = Path(__file__).parents[2] / "stubs"

Inputs = dict[str, NDArray[Any]]
Answer = Any  # outputs by name, or (error code, error message)


@pytest.fixture(scope="module")
def repository(tmp_path_factory, tiny_onnx: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build_repository(tiny_onnx(folder / "tiny.onnx", SPEC), folder / "repository")
    return folder / "repository"


def run_model(
    repository: Path, name: str, requests: Sequence[Inputs], **changes: Any
) -> tuple[list[Answer], dict[str, str | None]]:
    """The answers of a built model, and the files of all modules that were loaded for them."""
    config = json_format.MessageToDict(
        read_config(repository / name / "config.pbtxt"), preserving_proto_field_name=True
    )
    process = subprocess.run(
        [sys.executable, "-I", STUBS / "run_model.py", repository / name, STUBS],
        input=pickle.dumps((json.dumps(config | changes), list(requests))),
        capture_output=True,
        cwd="/",
        env={**os.environ, "TMPDIR": str(repository.parent)},
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    return pickle.loads(process.stdout)


def good_and_malformed(name: str) -> tuple[Inputs, Inputs, str]:
    """Of one model: a request it can answer, one it cannot, and what it says to that."""
    match name:
        case "bodypose_preprocess":
            return images(jpeg(64)), images(b"hello"), "image: expected JPEG"
        case "bodypose_network":
            return (
                pixels(64),
                {"pixels": np.zeros((1, 4, 4, 3), np.uint8)},
                "pixels: expected UINT8",
            )
        case _:
            return people(1), people(1, geometry_scale=0), "geometry: expected"


def images(*encoded: bytes) -> Inputs:
    return {"image": np.array([[data] for data in encoded], np.object_)}


def jpeg(grey: int) -> bytes:
    return cv2.imencode(".jpg", np.full((40, 50, 3), grey, np.uint8))[1].tobytes()


def pixels(*greys: int) -> Inputs:
    shape = SPEC.pixels.dims
    return {"pixels": np.stack([np.full(shape, grey, np.uint8) for grey in greys])}


def people(count: int, geometry_scale: float = 2) -> Inputs:
    """`count` images with one person each, all joints at (8, 16) network pixels."""
    peaks = np.zeros((count, *SPEC.peaks.dims), np.float32)
    peaks[:, :, 0] = 8, 16, 0.5
    limb_scores = np.zeros((count, *SPEC.limb_scores.dims), np.float32)
    limb_scores[:, :, 0, 0] = 0.9
    geometry = Letterbox((16, 24), geometry_scale, (0, 0)).to_geometry()
    return {
        "peaks": peaks,
        "limb_scores": limb_scores,
        "geometry": np.stack([geometry] * count),
    }


@pytest.mark.parametrize("name", STEPS)
def test_a_built_model_answers_from_its_own_folder_alone(repository, name):
    good, malformed, complaint = good_and_malformed(name)

    (answer, refusal), files = run_model(repository, name, [good, malformed])

    assert isinstance(answer, dict)
    assert refusal[0] == "INVALID_ARG"
    assert refusal[1].startswith(complaint)
    own = str(repository / name / "1" / "pose_runtime")
    assert files["1.pose_runtime.spec"].startswith(own)
    assert files["1.pose_runtime.door"].startswith(own)
    assert not files.keys() & {"pose_runtime", "tools", "client", "keras", "tensorflow"}


@pytest.mark.parametrize("name", STEPS)
def test_a_request_answers_the_same_alone_and_in_a_batch(repository, name):
    good, malformed, _ = good_and_malformed(name)
    larger = {
        PREPROCESS: images(jpeg(10), jpeg(200)),
        NETWORK: pixels(10, 200),
        GROUPING: people(2),
    }[name]

    alone, _ = run_model(repository, name, [larger])
    together, _ = run_model(repository, name, [malformed, good, larger, malformed])

    assert [isinstance(answer, dict) for answer in together] == [False, True, True, False]
    for tensor, array in alone[0].items():
        assert len(array) == 2
        np.testing.assert_array_equal(together[2][tensor], array)


@pytest.mark.parametrize("batch", ["2", "8"])
def test_the_network_answers_the_same_however_many_images_it_takes_at_once(repository, batch):
    request = pixels(10, 60, 120, 180, 240)
    parameters = {"batch": batch, "threads": "0", "precision": "f32"}
    changes = {name: {"string_value": value} for name, value in parameters.items()}

    one_by_one, _ = run_model(repository, NETWORK, [request])
    at_once, _ = run_model(repository, NETWORK, [request], parameters=changes)

    for tensor, array in one_by_one[0].items():
        assert len(array) == 5
        np.testing.assert_allclose(at_once[0][tensor], array, atol=1e-3)


def test_the_network_tells_dark_from_bright(repository):
    (dark, bright), _ = run_model(repository, NETWORK, [pixels(10), pixels(200)])

    moved = bright["peaks"][0, 0, 0, 0] - dark["peaks"][0, 0, 0, 0]
    assert moved == pytest.approx(190, abs=0.1)


def test_an_error_names_the_image_of_a_larger_request(repository):
    request = images(jpeg(1), jpeg(2), b"GIF89a", jpeg(3))

    ((code, message),), _ = run_model(repository, PREPROCESS, [request])

    assert code == "INVALID_ARG"
    assert message.startswith("batch index 2 (of 0..3): image: expected JPEG")


def test_nan_from_the_network_is_an_error_of_its_own_request(repository):
    broken = people(1)
    broken["peaks"][0, 3, 0, 0] = np.nan

    (refusal, answer), _ = run_model(repository, GROUPING, [broken, people(1)])

    assert refusal == (
        "INTERNAL",
        "peaks and limb_scores: expected finite numbers, got NaN or infinity",
    )
    assert answer["num_people"].tolist() == [[1]]
    assert answer["keypoints"][0, 0, 0].tolist() == [4, 8, 0.5]


def test_a_missing_input_is_an_error_and_not_the_end_of_the_model(repository):
    (refusal, answer), _ = run_model(repository, GROUPING, [{}, people(1)])

    assert refusal[0] == "INTERNAL"
    assert isinstance(answer, dict)


def test_a_model_refuses_to_load_with_another_config(repository):
    with pytest.raises(AssertionError, match=r"bodypose_network: .*run `tools build-repo`"):
        run_model(repository, NETWORK, [pixels(1)], output=[])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (PREPROCESS, "pipeline.json"),
        (NETWORK, "model.onnx"),
        (GROUPING, "pose_runtime/grouping.py"),
    ],
)
def test_a_model_refuses_to_load_a_changed_file_and_names_it(repository, name, file):
    path = repository / name / "1" / file
    content = path.read_bytes()
    try:
        path.write_bytes(content + b"\n")
        with pytest.raises(AssertionError, match=rf"1/{file} changed after the build"):
            run_model(repository, name, [])
    finally:
        path.write_bytes(content)
