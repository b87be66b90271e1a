"""A set of drawn people, as training and evaluation read it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.data.coco import read_coco
from bodypose_tools.scenes.dataset import ANNOTATIONS, draw_dataset
from pose_runtime.skeleton import BODYPOSE_18


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    result = CliRunner().invoke(app, ["draw-people", "-n", "3", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    assert "3 pictures in" in result.output
    return folder


def test_every_picture_has_people_whose_joints_lie_in_their_boxes(drawn):
    records = read_coco(drawn / ANNOTATIONS, drawn, BODYPOSE_18)
    assert len(records) == 3
    for record in records:
        assert 1 <= len(record.joints) <= 3
        for joints, (x, y, width, height) in zip(record.joints, record.boxes, strict=True):
            labelled = joints[joints[:, 2] > 0]
            assert len(labelled) >= 12
            assert (labelled[:, :2] >= (x, y)).all()
            assert (labelled[:, :2] <= (x + width + 1, y + height + 1)).all()


def test_a_larger_set_begins_with_the_smaller_one(drawn, tmp_path):
    draw_dataset(tmp_path, 1, seed=0)
    assert (tmp_path / "000001.jpg").read_bytes() == (drawn / "000001.jpg").read_bytes()
    small, large = (json.loads((at / ANNOTATIONS).read_text()) for at in (tmp_path, drawn))
    assert large["annotations"][: len(small["annotations"])] == small["annotations"]


def test_another_seed_draws_other_people(drawn, tmp_path):
    draw_dataset(tmp_path, 1, seed=1)
    assert (tmp_path / "000001.jpg").read_bytes() != (drawn / "000001.jpg").read_bytes()


def test_areas_are_of_the_pixels_seen(drawn):
    for person in json.loads((drawn / ANNOTATIONS).read_text())["annotations"]:
        assert 0.1 < person["area"] / np.prod(person["bbox"][2:]) < 0.9
