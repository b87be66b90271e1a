import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from bodypose_client import formats
from bodypose_client.errors import AnnotationError
from bodypose_client.formats import (
    ImageInfo,
    csv_header,
    csv_rows,
    image_record,
    openpose_record,
    poses_from_record,
    supervision_keypoints,
)
from bodypose_client.pose_client import ServedModel
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

POSES = Poses(
    np.float32([[[10, 20, 0.5], [0, 0, 0], [30.1, 60, 0.25]]]),
    np.float32([0.9]),
)
MODEL = ServedModel("bodypose", "1", "abc")
IMAGE = ImageInfo("photo.jpg", 640, 426)


def test_a_record_says_model_image_time_and_people():
    record = image_record(POSES, IMAGE, MODEL, {"request": 4.1234})

    assert record == {
        "schema": "bodypose/1",
        "model": {"name": "bodypose", "version": "1", "sha256": "abc"},
        "image": {"id": "photo.jpg", "width": 640, "height": 426},
        "timing_ms": {"request": 4.12},
        "poses": [
            {
                "score": 0.9,
                "bbox": [10, 20, 20.1, 40],
                "keypoints": [[10, 20, 0.5], [0, 0, 0], [30.1, 60, 0.25]],
                "num_keypoints": 2,
            }
        ],
    }


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_record_reads_back_as_the_same_people(count):
    random = np.random.default_rng(count)
    poses = Poses(
        random.uniform(0, 4000, (count, 18, 3)).astype(np.float32),
        random.uniform(0, 1, count).astype(np.float32),
    )

    text = json.dumps(image_record(poses, IMAGE, MODEL, {}))
    again = poses_from_record(json.loads(text), num_joints=18)

    assert np.array_equal(again.keypoints, poses.keypoints)
    assert np.array_equal(again.scores, poses.scores)


def test_a_record_of_another_schema_is_named():
    with pytest.raises(AnnotationError, match="expected 'bodypose/1', got None"):
        poses_from_record({}, num_joints=18)


def test_openpose_has_one_flat_list_for_each_person():
    record = openpose_record(POSES)

    assert record["people"][0]["pose_keypoints_2d"] == [10, 20, 0.5, 0, 0, 0, 30.1, 60, 0.25]


def test_a_row_of_csv_has_the_box_and_every_joint_below_their_names():
    three = ("head", "hip", "foot")
    skeleton = Skeleton("three", three, ((0, 1), (1, 2)), (0, 1, 2), (0.1,) * 3, (0, 1, 2))
    (row,) = csv_rows("photo.jpg", POSES)
    named = dict(zip(csv_header(skeleton), row, strict=True))

    assert [named[name] for name in ("image", "person", "score")] == ["photo.jpg", 1, 0.9]
    assert [named[name] for name in ("x", "y", "width", "height")] == [10, 20, 20.1, 40]
    assert [named[f"foot_{part}"] for part in ("x", "y", "score")] == [30.1, 60, 0.25]


def test_openpose_has_every_list_and_no_guesses():
    guess = Poses(np.float32([[[10, 20, 0.5], [3, 4, 0.01]]]), np.float32([0.9]))
    parts = [f"{part}_keypoints" for part in ("pose", "face", "hand_left", "hand_right")]

    assert openpose_record(guess) == {
        "version": 1.3,
        "people": [
            {
                "person_id": [-1],
                **{f"{part}_{dimensions}": [] for dimensions in ("2d", "3d") for part in parts},
                "pose_keypoints_2d": [10, 20, 0.5, 0, 0, 0],
            }
        ],
    }


def test_people_are_numbered_from_one_and_no_name_is_a_formula():
    two = Poses(np.concatenate([POSES.keypoints] * 2), np.float32([0.9, 0.8]))

    rows = csv_rows("=cmd()", two)

    assert [row[:3] for row in rows] == [["'=cmd()", 1, 0.9], ["'=cmd()", 2, 0.8]]


def test_supervision_gets_the_annotated_joints_and_what_is_visible(monkeypatch):
    monkeypatch.setattr(formats, "require", lambda package: None)
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(KeyPoints=SimpleNamespace))
    skeleton = Skeleton("two", ("a", "b", "c"), ((0, 1),), (0, 1, 2), (0.1,) * 3, (2, 1, 0))

    points = supervision_keypoints(POSES, skeleton)

    assert points.xy.tolist() == [[[np.float32(30.1), 60], [0, 0], [10, 20]]]
    assert points.visible.tolist() == [[True, False, True]]
    assert points.keypoint_confidence.tolist() == [[0.25, 0, 0.5]]
    assert points.detection_confidence.tolist() == [np.float32(0.9)]
    assert points.class_id.tolist() == [0]
