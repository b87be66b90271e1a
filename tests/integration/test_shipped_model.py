"""The shipped model: the same people from Keras, from ONNX and through a real server."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from typer.testing import CliRunner

from bodypose_client.evaluation import open_split
from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_client.pose_client import PoseClient
from bodypose_client.video.files import Frame
from bodypose_client.video.people import above, find_in_frames, with_ids
from bodypose_client.video.tracking import Tracker
from bodypose_tools.cli import app
from bodypose_tools.data.coco import read_coco
from bodypose_tools.evaluation.offline import find_people
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.images import decode_image
from pose_runtime.poses import Poses
from pose_runtime.spec import ImageLimits
from tests.idf1 import idf1

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[2]
KERAS_MODEL = SHIPPED_MODEL.with_suffix(".keras")
IMAGES = 40


def people_by(model: Path, coco: Path) -> list[Poses]:
    predict, spec, _ = open_predictor(model)
    records = read_coco(coco / "person_keypoints_val.json", coco / "val", spec.skeleton)
    found = find_people(predict, records[:IMAGES], spec)
    return [poses for _, poses in islice(found, IMAGES)]


def assert_same_people(ours: list[Poses], theirs: list[Poses], scale: float) -> None:
    """Sure people are the same, their sure joints within half a network pixel.

    One joint in 200 may be another peak: of two that are worth the same, rounding decides.
    """
    moved = []
    for one, other in zip(ours, theirs, strict=True):
        for person, score in zip(one.keypoints, one.scores, strict=True):
            if score < 0.2:
                continue
            sure = person[:, 2] > 0.15
            gaps = np.linalg.norm(other.keypoints[:, sure, :2] - person[sure, :2], axis=2)
            moved += (gaps > 0.5 * scale)[gaps.mean(axis=1).argmin()].tolist()
    assert len(moved) > 500
    assert np.mean(moved) <= 0.005


@pytest.mark.coco
def test_keras_onnx_and_server_find_the_same_people(shipped, coco):
    keras_people = people_by(KERAS_MODEL, coco)
    onnx_people = people_by(SHIPPED_MODEL, coco)
    split = open_split(coco / "person_keypoints_val.json", coco / "val", IMAGES)
    with PoseClient(f"grpc://{shipped.grpc_url}") as client:
        served_people = [client.infer(image.path) for image in split.images]
    assert sum(len(poses.above(0.2)) for poses in served_people) > IMAGES
    scale = 640 / 384  # network pixels to these images' pixels
    for one, other in (
        (keras_people, onnx_people),
        (onnx_people, keras_people),
        (onnx_people, served_people),
        (served_people, onnx_people),
    ):
        assert_same_people(one, other, scale)


def test_the_demo_finds_four_drawn_people_and_stops_its_server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["demo", "-o", "people.png"])
    assert result.exit_code == 0, result.output
    assert "4 people in" in result.output
    assert result.output.count("all 18 joints") == 4
    drawn, readme = (cv2.imread(str(path)) for path in ("people.png", ROOT / "docs/demo.jpg"))
    difference = np.abs(drawn.astype(int) - readme.astype(int)).mean()
    assert difference < 5, "README's picture is another: run make demo OUT=docs/demo.jpg"


def test_the_demo_says_what_is_wrong_with_a_photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.jpg").write_text("no photo")
    result = CliRunner().invoke(app, ["demo", "note.jpg"])
    assert result.exit_code == 1
    assert "expected JPEG, PNG, WebP or BMP bytes" in str(result.exception)


def test_the_shipped_files_fit_the_package():
    files = (SHIPPED_MODEL, KERAS_MODEL)
    assert sum(file.stat().st_size for file in files) <= 25_000_000


@pytest.mark.coco
@pytest.mark.parametrize("image_id", [69213, 94944])
def test_small_people_keep_their_ids_while_a_camera_pans_over_a_photo(shipped, coco, image_id):
    """Ten pixels a frame; by OKS from frame to frame alone, IDF1 is 0.84 and 0.75."""
    split = open_split(coco / "person_keypoints_val.json", coco / "val", None)
    (path,) = (image.path for image in split.images if image.id == image_id)
    photo = decode_image(path.read_bytes(), ImageLimits())
    width = photo.shape[1] * 3 // 4
    offsets = range(0, photo.shape[1] - width, 10)
    people = [
        person
        for person in split.content["annotations"]
        if person["image_id"] == image_id and person["num_keypoints"] >= 8
    ]

    with PoseClient(f"grpc://{shipped.grpc_url}") as client:
        frames = [
            Frame(number, number / 25, np.ascontiguousarray(photo[:, left : left + width]))
            for number, left in enumerate(offsets)
        ]
        tracked = with_ids(Tracker(client.skeleton.sigmas))
        shown = above(DISPLAY_MIN_SCORE)
        seen = [shown(tracked(found)) for found in find_in_frames(client, frames, 4)]

    pairs = [
        (people[person]["id"], frame.track_ids[found])
        for left, frame in zip(offsets, seen, strict=True)
        for person, found in _who_is_who(people, frame.poses, left)
    ]
    assert len(pairs) > 15
    assert idf1(pairs) >= 0.99


def _who_is_who(people, poses, left):
    """Annotated and found people whose boxes have about the same centre, each at most once."""
    annotated = np.array([person["bbox"] for person in people])
    centres = annotated[:, :2] + annotated[:, 2:] / 2 - (left, 0)
    found = (poses.corners[:, :2] + poses.corners[:, 2:]) / 2
    sizes = np.sqrt(annotated[:, 2] * annotated[:, 3])[:, None]
    gaps = np.linalg.norm(centres[:, None] - found[None], axis=2) / sizes
    pairs = zip(*linear_sum_assignment(gaps), strict=True)
    return [(one, two) for one, two in pairs if gaps[one, two] < 0.35]
