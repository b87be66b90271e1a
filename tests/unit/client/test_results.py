"""The forms in which people leave the client: each reads back as what it was."""

import csv
import io
import json
import sys

import cv2
import numpy as np
import pytest
from PIL import Image as PilImage

from bodypose_client.formats import csv_header, csv_rows, poses_from_record
from bodypose_client.pose_client import PoseClient
from bodypose_client.results import ImagePoses
from pose_runtime.errors import ContractError
from pose_runtime.extras import MissingPackage
from pose_runtime.poses import FOUND_JOINT_SCORE, Poses

URL = "grpc://127.0.0.1:8001/bodypose"
COCO_17 = ["nose"] + [
    f"{side}_{part}"
    for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
]


@pytest.fixture
def people(spec):
    """Two people, one with a missing joint, at coordinates that are no round numbers."""
    random = np.random.default_rng(5)
    keypoints = random.uniform(0.1, 90, (2, spec.skeleton.num_joints, 3)).astype(np.float32)
    keypoints[..., 2] = random.uniform(0.1, 1, keypoints.shape[:2])
    keypoints[1, 3] = 0
    return Poses(keypoints, np.float32([0.9, 0.35]))


@pytest.fixture
def client(fake_server, people):
    return PoseClient(URL, connect=fake_server(lambda pixels: people))


@pytest.fixture
def poses(client, write_image):
    return client.infer(write_image("photo.jpg", (48, 64)))


def test_the_people_know_their_image_and_who_found_them(poses, client):
    assert isinstance(poses, ImagePoses)
    assert (poses.image.id, poses.image.width, poses.image.height) == ("photo.jpg", 64, 48)
    assert (poses.skeleton, poses.model) == (client.skeleton, client.model)
    assert poses.timing_ms["request"] > 0


def test_the_sure_ones_know_it_too(poses):
    sure = poses.above(0.5)

    assert (len(sure), sure.image, sure.model) == (1, poses.image, poses.model)
    assert len(sure.to_json()["poses"]) == 1


def test_json_reads_back_as_the_same_people(poses, people):
    record = json.loads(json.dumps(poses.to_json()))

    again = poses_from_record(record, num_joints=18)
    assert np.array_equal(again.keypoints, people.keypoints)
    assert np.array_equal(again.scores, people.scores)
    assert record["image"] == {"id": "photo.jpg", "width": 64, "height": 48}


def test_coco_reads_back_in_the_frame_of_annotations(poses, people, spec):
    results = json.loads(json.dumps(poses.to_coco(139)))

    assert [(each["image_id"], each["category_id"]) for each in results] == [(139, 1)] * 2
    keypoints = np.float32([each["keypoints"] for each in results]).reshape(2, 17, 3)
    found = keypoints[..., 2] > 0
    keypoints[found, :2] += 0.5
    expected = people.keypoints[:, list(spec.skeleton.annotated)]
    assert np.allclose(keypoints, expected, atol=1e-5)
    assert [np.float32(each["score"]) for each in results] == people.scores.tolist()


def test_openpose_reads_back_as_the_same_joints(poses, people):
    record = json.loads(json.dumps(poses.to_openpose()))

    joints = [np.float32(each["pose_keypoints_2d"]).reshape(18, 3) for each in record["people"]]
    assert np.array_equal(joints, people.found_only().keypoints)


def test_openpose_has_the_keys_that_openpose_always_writes(poses):
    record = poses.to_openpose()

    assert list(record) == ["version", "people"]
    assert record["version"] == 1.3
    for person in record["people"]:
        assert list(person) == [
            "person_id",
            "pose_keypoints_2d",
            "face_keypoints_2d",
            "hand_left_keypoints_2d",
            "hand_right_keypoints_2d",
            "pose_keypoints_3d",
            "face_keypoints_3d",
            "hand_left_keypoints_3d",
            "hand_right_keypoints_3d",
        ]
        assert len(person.pop("pose_keypoints_2d")) == 3 * 18
        assert person.pop("person_id") == [-1]
        assert set(map(len, person.values())) == {0}


def test_a_found_joint_is_the_same_everywhere(client, poses, people):
    """Counts, boxes, records, OpenPose, supervision and the row of a table: one rule."""
    found = people.keypoints[..., 2] >= FOUND_JOINT_SCORE
    assert (~found & (people.keypoints[..., 2] > 0)).sum() > 0  # there are guesses
    boxes = [
        [*xy.min(axis=0), *(xy.max(axis=0) - xy.min(axis=0))]
        for xy in (person[there, :2] for person, there in zip(people.keypoints, found, strict=True))
    ]

    record = poses.to_json()["poses"]
    openpose = [each["pose_keypoints_2d"][2::3] for each in poses.to_openpose()["people"]]
    rows = csv_rows("photo.jpg", poses)

    assert poses.num_keypoints.tolist() == found.sum(axis=1).tolist()
    assert np.allclose(poses.boxes, boxes)
    assert np.allclose(poses.corners[:, 2:] - poses.corners[:, :2], poses.boxes[:, 2:])
    assert [each["num_keypoints"] for each in record] == found.sum(axis=1).tolist()
    assert np.allclose([each["bbox"] for each in record], boxes)
    assert np.array_equal(np.float32(openpose) > 0, found)
    assert np.allclose([row[3:7] for row in rows], boxes)
    assert [person.num_keypoints for person in poses] == found.sum(axis=1).tolist()
    assert np.allclose([person.box for person in poses], boxes)


def test_people_are_counted_indexed_sliced_and_walked_through(poses, people):
    assert len(poses) == len(list(poses)) == 2
    assert poses[-1].score == poses[1].score == pytest.approx(0.35)
    assert np.array_equal(poses[0].keypoints, people.keypoints[0])
    assert [person.score for person in poses[1:]] == [poses[1].score]
    assert isinstance(poses[:1], ImagePoses)
    assert poses[:1].image == poses.image
    with pytest.raises(IndexError, match="person 2: expected one of 2"):
        _ = poses[2]


def test_a_joint_is_asked_for_by_its_name(poses, people, spec):
    (guess, *_), (sure, *_) = np.where(~people.found[0])[0], np.where(people.found[0])[0]
    names = spec.skeleton.joints

    assert poses[0].joint(names[sure]) == pytest.approx(people.keypoints[0, sure].tolist())
    assert poses[0].joint(names[guess]) is None
    with pytest.raises(ContractError, match=r"expected one of nose, .* got 'tail'"):
        poses[0].joint("tail")


@pytest.mark.parametrize("name", ["=1+1.jpg", "+a.jpg", "-a.jpg", "@a.jpg", "\ta.jpg"])
def test_a_name_is_no_formula_in_a_spreadsheet(poses, name):
    assert csv_rows(name, poses)[0][0] == f"'{name}"
    assert csv_rows("a=1.jpg", poses)[0][0] == "a=1.jpg"


def test_csv_reads_back_as_the_same_joints(poses, people):
    text = io.StringIO()
    csv.writer(text).writerows([csv_header(poses.skeleton), *csv_rows("photo.jpg", poses)])

    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    joints = [
        [[np.float32(row[f"{joint}_{part}"]) for part in ("x", "y", "score")] for row in rows]
        for joint in poses.skeleton.joints
    ]
    assert np.array_equal(np.swapaxes(joints, 0, 1), people.keypoints)
    assert [np.float32(row["score"]) for row in rows] == people.scores.tolist()


def test_supervision_has_the_same_joints(poses, people):
    supervision = pytest.importorskip("supervision")

    keypoints = poses.to_supervision()

    assert isinstance(keypoints, supervision.KeyPoints)
    expected = people.found_only().keypoints[:, list(poses.skeleton.annotated)]
    assert np.array_equal(keypoints.xy, expected[..., :2])
    assert np.array_equal(keypoints.keypoint_confidence, expected[..., 2])
    assert np.array_equal(keypoints.detection_confidence, people.scores)
    assert np.array_equal(keypoints.visible, expected[..., 2] > 0)


def test_supervision_draws_limbs_without_being_told_of_them(poses):
    supervision = pytest.importorskip("supervision")
    keypoints = poses.to_supervision()
    hip, knee = (keypoints.xy[0, COCO_17.index(f"left_{part}")] for part in ("hip", "knee"))
    assert keypoints.visible[0, [COCO_17.index("left_hip"), COCO_17.index("left_knee")]].all()

    scene = supervision.EdgeAnnotator(thickness=1).annotate(
        np.zeros((100, 100, 3), np.uint8), keypoints
    )

    x, y = ((hip + knee) / 2).round().astype(int)
    assert scene[y - 1 : y + 2, x - 1 : x + 2].any()


def test_nobody_is_nobody_in_every_form(fake_server):
    client = PoseClient(URL, connect=fake_server(lambda pixels: Poses.empty(18)))
    poses = client.infer(np.zeros((4, 4, 3), np.uint8))

    assert poses.to_json()["poses"] == poses.to_coco(1) == poses.to_openpose()["people"] == []
    assert poses.boxes.shape == (0, 4)
    if "supervision" in sys.modules:
        assert len(poses.to_supervision()) == 0


def test_a_missing_supervision_is_one_line(poses, monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)

    with pytest.raises(MissingPackage, match="run `pip install supervision`"):
        poses.to_supervision()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_size_is_that_of_the_upright_picture(client, tmp_path, orientation, suffix):
    path = tmp_path / f"photo.{suffix}"
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    PilImage.new("RGB", (30, 20)).save(path, exif=exif)

    poses = client.infer(path)

    assert (poses.image.width, poses.image.height) == ((30, 20) if orientation < 5 else (20, 30))


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".png", ".jpg"])
def test_the_size_of_every_kind_of_file(client, suffix):
    data = cv2.imencode(suffix, np.zeros((20, 30, 3), np.uint8))[1].tobytes()

    image = client.infer(data).image

    assert (image.id, image.width, image.height) == ("", 30, 20)


def test_a_pil_image_gives_the_same_people_as_its_pixels(fake_server, spec):
    arrived = []

    def answer(pixels):
        arrived.append(pixels)
        return Poses.empty(spec.skeleton.num_joints)

    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    client = PoseClient(URL, connect=fake_server(answer))
    client.infer(PilImage.fromarray(pixels))
    client.infer(PilImage.fromarray(pixels[:, :, 0]))

    assert np.array_equal(arrived[0], pixels)
    assert np.array_equal(arrived[1], np.repeat(pixels[:, :, :1], 3, axis=2))
