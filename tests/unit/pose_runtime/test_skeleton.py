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


def test_the_sigmas_are_cocos_and_the_necks_is_a_shoulders():
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    sigmas = dict(zip(BODYPOSE_18.joints, BODYPOSE_18.sigmas, strict=True))
    assert [sigmas[joint] for joint in COCO_17] == pytest.approx(
        cocoeval.Params("keypoints").kpt_oks_sigmas
    )
    assert sigmas["neck"] == sigmas["left_shoulder"]


def test_limbs_go_from_the_neck_outwards_and_the_right_side_is_first():
    named = [" ".join(BODYPOSE_18.joints[end] for end in limb) for limb in BODYPOSE_18.limbs]
    legs = [
        limb.replace("SIDE", side)
        for side in ("right", "left")
        for limb in ("neck SIDE_hip", "SIDE_hip SIDE_knee", "SIDE_knee SIDE_ankle")
    ]
    arms = [
        limb.replace("SIDE", side)
        for side in ("right", "left")
        for limb in (
            "neck SIDE_shoulder",
            "SIDE_shoulder SIDE_elbow",
            "SIDE_elbow SIDE_wrist",
            "SIDE_shoulder SIDE_ear",
        )
    ]
    head = ["neck nose", "nose right_eye", "nose left_eye"]
    ears = ["right_eye right_ear", "left_eye left_ear"]
    assert named == [*legs, *arms, *head, *ears]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sigmas": (0.1,) * 17}, "sigmas needs one entry for each of 18 joints, got 17"),
        ({"sigmas": (0.1,) * 17 + (0.0,)}, "sigmas: expected finite numbers above 0"),
        ({"sigmas": (0.1,) * 17 + (float("inf"),)}, "sigmas: expected finite numbers above 0"),
        ({"sigmas": (0.1,) * 17 + (float("nan"),)}, "sigmas: expected finite numbers above 0"),
        ({"limbs": ((-1, 2),)}, "joints go from 0 to 17"),
        ({"midpoints": ((1, 2, 18),)}, r"\(1, 2, 18\): joints go from 0 to 17"),
        ({"annotated": (*BODYPOSE_18.annotated[:-1], 18)}, "joints go from 0 to 17"),
        ({"annotated": BODYPOSE_18.annotated[:-1]}, "every joint must be annotated or a midpoint"),
        ({"annotated": (*BODYPOSE_18.annotated, 1)}, "and not both"),
    ],
)
def test_what_no_body_has_is_refused(change, complaint):
    with pytest.raises(SpecError, match=complaint):
        replace(BODYPOSE_18, **change)


def test_a_sigma_may_be_small_or_large():
    sigmas = (1e-9, 5.0, *BODYPOSE_18.sigmas[2:])
    assert replace(BODYPOSE_18, sigmas=sigmas).sigmas == sigmas


@pytest.mark.parametrize(("left", "right", "neck"), [(0.3, 0.9, 0.3), (0.9, 0.3, 0.3), (0, 2, 0)])
def test_a_midpoint_is_no_surer_than_its_ends(left, right, neck):
    person = np.zeros((2, 17, 3), np.float32)
    person[1, 5], person[1, 6] = (10, 20, left), (30, 50, right)
    found = BODYPOSE_18.joints_from_annotation(person)[:, 1]
    assert found[0].tolist() == [0, 0, 0]
    assert found[1] == pytest.approx([20, 35, neck] if neck else [0, 0, 0])


def test_a_joint_on_the_upper_left_border_is_there():
    person = np.zeros((1, 17, 3), np.float32)
    person[0, 5], person[0, 6] = (0, 0, 2), (0, 0, 1)
    assert BODYPOSE_18.joints_from_annotation(person)[0, 1].tolist() == [0, 0, 1]
