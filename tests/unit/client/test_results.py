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
from pose_runtime.extras import MissingPackage
from pose_runtime.poses import Poses

URL = "grpc://127.0.0.1:8001/bodypose"


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

    assert record["version"] == 1.3
    joints = [np.float32(each["pose_keypoints_2d"]).reshape(18, 3) for each in record["people"]]
    assert np.array_equal(joints, people.keypoints)


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
    assert np.array_equal(keypoints.xy, people.keypoints[..., :2])
    assert np.array_equal(keypoints.keypoint_confidence, people.keypoints[..., 2])
    assert np.array_equal(keypoints.detection_confidence, people.scores)
    assert not keypoints.visible[1, 3]
    edges = [(a + 1, b + 1) for a, b in poses.skeleton.limbs]
    annotator = supervision.EdgeAnnotator(edges=edges)
    scene = annotator.annotate(np.zeros((100, 100, 3), np.uint8), keypoints)
    assert scene.any()


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
