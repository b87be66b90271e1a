"""Labelled images tell a network's convention, which is then pasted into the command line."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_runtime.skeleton import BODYPOSE_18
from tests.unit.tools.adoption.test_adopt import adopt, assert_same_people, found
from tests.unit.tools.foreign_networks import (
    COLOUR,
    Drawn,
    draw_fields,
    draw_heatmaps,
    write_fields,
)
from tests.unit.tools.people import person

HW = (320, 480)


def _turned(joints: np.ndarray, degrees: float) -> np.ndarray:
    """A person turned about their centre."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    centre = joints[:, :2].mean(axis=0)
    turned = joints.copy()
    turned[:, :2] = (joints[:, :2] - centre) @ np.float32(
        [[cosine, sine], [-sine, cosine]]
    ) + centre
    return turned


# Limbs in many directions: those that always hang down do not tell x from y.
PEOPLE = np.stack(
    [
        _turned(person(50 + 155 * column, 18 + 155 * row, 1.25), 50 * (3 * row + column) - 60)
        for row in (0, 1)
        for column in (0, 1, 2)
    ]
).astype(np.float32)
HEATMAPS, FIELDS = draw_heatmaps(PEOPLE, HW, 8), draw_fields(PEOPLE, BODYPOSE_18, HW, 4, 4)
WITH_BACKGROUND = np.concatenate([HEATMAPS, 1 - HEATMAPS.max(axis=0, keepdims=True)])
PLAIN = Drawn(HW, False, tuple(value / 255 for value in COLOUR), 8, 17, "batch")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> tuple[str | Path, ...]:
    """Options that name the picture of the drawn networks and its labels."""
    folder = tmp_path_factory.mktemp("labelled")
    assert cv2.imwrite(str(folder / "1.png"), np.full((*HW, 3), COLOUR[::-1], np.uint8))
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 0,
            "num_keypoints": 17,
            "keypoints": (BODYPOSE_18.annotation_from_joints(joints[None])[0] - [0.5, 0.5, 0])
            .ravel()
            .tolist(),
            "bbox": [0, 0, 100, 100],
            "area": 10000,
        }
        for number, joints in enumerate(PEOPLE, 1)
    ]
    category = {"id": 1, "name": "person", "keypoints": list(BODYPOSE_18.annotated_joints)}
    image = {"id": 1, "file_name": "1.png", "height": HW[0], "width": HW[1]}
    content = {"images": [image], "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(content))
    return "--check-annotations", folder / "people.json", "--images", folder


@pytest.fixture
def net(tmp_path) -> Path:
    return tmp_path / "net.onnx"


def proposed(said: str) -> list[str]:
    (line,) = (line for line in said.splitlines() if line.startswith("fits best: "))
    return shlex.split(line.removeprefix("fits best: "))


def unseen(net: Path, labelled: tuple[str | Path, ...], capsys) -> list[str]:
    """What is proposed for a network of which nothing is stated."""
    from typer.testing import CliRunner

    from bodypose_tools.cli import app

    arguments = ["adopt", net, "-o", net.with_suffix(".adopted.onnx"), *labelled]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1  # what is not stated is still asked for
    return proposed(result.output)


def test_a_network_of_which_nothing_is_known_is_recognised(labelled, net, capsys):
    rng = np.random.default_rng(1)
    joints, fields = rng.permutation(19)[:18], rng.permutation(38)
    heat, paf = np.zeros_like(WITH_BACKGROUND), np.zeros_like(FIELDS)
    turned = FIELDS.copy()
    turned[[0, 1, 8, 9]] *= -1
    heat[joints], paf[fields] = HEATMAPS, turned
    scaled = tuple(value / 256 - 0.5 for value in COLOUR[::-1])
    write_fields(net, replace(PLAIN, scaled=scaled), {"heat": heat, "paf": paf})

    options = unseen(net, labelled, capsys)

    assert options[: options.index("--joint-channels")] == [
        *("--colours", "bgr", "--mean", "128", "--std", "256")
    ]
    assert options[-2:] == ["--backwards", "0,4"]
    adopt(net, *options)
    assert_same_people(found(net), PEOPLE[np.argsort(PEOPLE[:, 0, 0])])


@pytest.mark.parametrize(
    ("heat", "paf", "expected"),
    [
        (WITH_BACKGROUND, FIELDS, ["--background", "last"]),
        (np.roll(WITH_BACKGROUND, 1, axis=0), FIELDS, ["--background", "first"]),
        (HEATMAPS, FIELDS, ["--background", "none"]),
        (HEATMAPS, -FIELDS, ["--background", "none", "--direction", "backwards"]),
        (
            HEATMAPS,
            FIELDS.reshape(-1, 2, *FIELDS.shape[1:])[:, ::-1].reshape(FIELDS.shape),
            ["--background", "none", "--field-order", "yx"],
        ),
    ],
    ids=["last", "first", "none", "backwards", "yx"],
)
def test_the_shortest_options_are_proposed(heat, paf, expected, labelled, net, capsys):
    write_fields(net, PLAIN, {"heat": heat, "paf": paf})
    options = unseen(net, labelled, capsys)
    scale = ["--mean", "0", "--std", "255"]
    assert options == ["--colours", "rgb", *expected, *scale]


def test_what_fits_stays_as_it_is_stated(labelled, net):
    write_fields(net, replace(PLAIN, scaled=COLOUR), {"heat": HEATMAPS, "paf": FIELDS})
    said = adopt(net, "--colours", "rgb", "--mean", "0", "--std", "1", *labelled)
    assert proposed(said) == [
        "--colours",
        "rgb",
        "--background",
        "none",
        "--mean",
        "0",
        "--std",
        "1",
    ]
    assert "as stated" in said


def test_labels_that_no_heatmap_knows_are_an_error(labelled, net):
    write_fields(net, PLAIN, {"heat": HEATMAPS[:, :, ::-1] * 0, "paf": FIELDS})
    assert "expected heatmaps that are high at the labelled joints" in adopt(net, *labelled, code=1)


def test_labels_that_are_too_few_are_an_error(labelled, net, tmp_path):
    write_fields(net, PLAIN, {"heat": HEATMAPS, "paf": FIELDS})
    content = json.loads(labelled[1].read_text())
    content["annotations"] = content["annotations"][:2]
    (tmp_path / "few.json").write_text(json.dumps(content))
    said = adopt(net, "--check-annotations", tmp_path / "few.json", *labelled[2:], code=1)
    assert "expected a joint with 3 labels or more, got none in 1 images" in said


def test_annotations_need_their_images(labelled, net):
    assert "expected both or none" in adopt(net, *labelled[:2], code=2)
