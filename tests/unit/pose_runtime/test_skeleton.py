import json
from dataclasses import replace

import numpy as np
import pytest

from pose_runtime.errors import SpecError
from pose_runtime.skeleton import BODYPOSE_18, Skeleton

SIDED = ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COCO_17 = ["nose", *(f"{side}_{joint}" for joint in SIDED for side in ("left", "right"))]


def test_the_default_skeleton_reads_coco_files():
    assert BODYPOSE_18.annotated_joints == tuple(COCO_17)
    assert (BODYPOSE_18.num_joints, BODYPOSE_18.num_limbs) == (18, 19)


def test_mirrored_joints_swap_their_sides():
    for joint, other in enumerate(BODYPOSE_18.mirror):
        swapped = (
            BODYPOSE_18.joints[joint]
            .replace("left", "L")
            .replace("right", "left")
            .replace("L", "right")
        )
        assert BODYPOSE_18.joints[other] == swapped


def test_the_neck_lies_between_the_shoulders():
    person = np.zeros((1, 17, 3), np.float32)
    person[0, 5] = 10, 20, 2
    person[0, 6] = 30, 40, 1
    neck = BODYPOSE_18.joints_from_annotation(person)[0, 1]
    assert neck.tolist() == [20, 30, 1]


def test_one_shoulder_makes_no_neck():
    person = np.zeros((1, 17, 3), np.float32)
    person[0, 5] = 10, 20, 2
    assert BODYPOSE_18.joints_from_annotation(person)[0, 1].tolist() == [0, 0, 0]


def test_to_joints_and_back_is_the_same_annotation():
    people = np.random.default_rng(0).uniform(1, 99, (3, 17, 3)).astype(np.float32)
    joints = BODYPOSE_18.joints_from_annotation(people)
    assert (BODYPOSE_18.annotation_from_joints(joints) == people).all()


def test_json_and_back_is_the_same_skeleton():
    assert Skeleton.from_json(json.loads(json.dumps(BODYPOSE_18.to_json()))) == BODYPOSE_18


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"limbs": ((0, 18),)}, "joints go from 0 to 17"),
        ({"limbs": ()}, "needs limbs"),
        ({"limbs": ((3, 3),)}, "two different joints"),
        ({"mirror": tuple(range(17))}, "mirror needs one entry for each of 18"),
        ({"mirror": (1, 2, *range(2, 18))}, "mirror must undo itself"),
        ({"joints": ("nose",) * 18}, "must differ"),
        ({"midpoints": ()}, "annotated or a midpoint"),
        ({"midpoints": ((0, 2, 5),)}, "annotated or a midpoint"),
    ],
)
def test_a_contradiction_is_refused(change, complaint):
    with pytest.raises(SpecError, match=complaint):
        replace(BODYPOSE_18, **change)


def test_a_file_without_limbs_is_refused_in_one_line():
    with pytest.raises(SpecError, match="expected name, joints, limbs") as caught:
        Skeleton.from_json({"name": "x", "joints": ["a"]})
    assert "\n" not in str(caught.value)
