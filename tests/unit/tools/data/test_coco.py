import json
from dataclasses import replace

import numpy as np
import pytest

from bodypose_client.errors import AnnotationError
from bodypose_tools.data.coco import DatasetError, network_view, read_coco
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import ImageLimits
from tests.drawn import DRAWN


def test_joints_come_back_where_they_were_drawn(drawn_coco):
    records = read_coco(drawn_coco / "people.json", drawn_coco, BODYPOSE_18)
    assert [record.image_id for record in records] == list(DRAWN)
    for record in records:
        drawn = np.stack(DRAWN[record.image_id])
        assert np.allclose(record.joints[:, :, :2], drawn[:, :, :2], atol=1e-4)


def changed(drawn_coco, tmp_path, change) -> None:
    content = json.loads((drawn_coco / "people.json").read_text())
    change(content)
    (tmp_path / "people.json").write_text(json.dumps(content))


def test_crowds_and_people_without_joints_are_ignored_boxes(drawn_coco, tmp_path):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"][1]["num_keypoints"] = 0

    changed(drawn_coco, tmp_path, change)
    one, two = read_coco(tmp_path / "people.json", drawn_coco, BODYPOSE_18)
    assert (len(one.joints), len(one.ignored_boxes)) == (0, 1)
    assert (len(two.joints), len(two.ignored_boxes)) == (1, 1)


def test_unlabelled_joints_are_nowhere(drawn_coco, tmp_path):
    def change(content):
        content["annotations"][0]["keypoints"][0:3] = 5, 6, 0

    changed(drawn_coco, tmp_path, change)
    record = read_coco(tmp_path / "people.json", drawn_coco, BODYPOSE_18)[0]
    assert record.joints[0, 0].tolist() == [0, 0, 0]


def test_another_skeletons_file_is_refused_by_its_names(drawn_coco, tmp_path):
    def change(content):
        content["categories"][0]["keypoints"][:2] = ["head", "tail"]

    changed(drawn_coco, tmp_path, change)
    with pytest.raises(
        AnnotationError, match=r"got head, tail, .*; give the matching pose_config_path"
    ):
        read_coco(tmp_path / "people.json", drawn_coco, BODYPOSE_18)


def test_a_folder_without_the_images_is_refused(drawn_coco, tmp_path):
    with pytest.raises(DatasetError, match=r"got no 1.png there"):
        read_coco(drawn_coco / "people.json", tmp_path, BODYPOSE_18)


def test_an_image_of_another_size_is_refused_at_the_start(drawn_coco, tmp_path):
    changed(drawn_coco, tmp_path, lambda content: content["images"][1].update(width=160))
    with pytest.raises(DatasetError, match=r"image 2 .*2\.png\): expected width 224"):
        read_coco(tmp_path / "people.json", drawn_coco, BODYPOSE_18)
    assert len(read_coco(tmp_path / "people.json", drawn_coco, BODYPOSE_18, limit=1)) == 1


def test_images_without_people_are_refused_for_nothing_can_be_scored(drawn_coco, tmp_path):
    changed(drawn_coco, tmp_path, lambda content: content["annotations"].pop(0))
    with pytest.raises(DatasetError, match="people with labelled joints, got none in 1 images"):
        read_coco(tmp_path / "people.json", drawn_coco, BODYPOSE_18, limit=1)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "expected JSON"), ("[]", "expected lists"), ('{"images": []}', "expected lists")],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path, text, words):
    (tmp_path / "people.json").write_text(text)
    with pytest.raises(AnnotationError, match=words):
        read_coco(tmp_path / "people.json", tmp_path, BODYPOSE_18)


@pytest.mark.parametrize("content", [None, b"no image"])
def test_an_image_that_cannot_be_read_is_named(drawn_coco, tmp_path, content):
    record = read_coco(drawn_coco / "people.json", drawn_coco, BODYPOSE_18)[0]
    record = replace(record, path=tmp_path / "1.png")
    if content is not None:
        record.path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"image {record.image_id} \(.*1.png\): "):
        network_view(record, (32, 32), ImageLimits())
