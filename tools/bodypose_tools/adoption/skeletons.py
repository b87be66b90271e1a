"""Skeletons of other projects, in the order of their channels."""

from __future__ import annotations

from typing import Final

from pose_runtime.skeleton import BODYPOSE_18, Skeleton

# COCO's OKS sigmas by the name of the joint without its side; the hip's centre takes the hips'.
_SIGMAS = {
    joint.removeprefix("left_"): sigma
    for joint, sigma in zip(BODYPOSE_18.joints, BODYPOSE_18.sigmas, strict=True)
    if not joint.startswith("right_")
}
# Sigmas of feet: Jin et al. 2020, COCO-WholeBody (arXiv:2007.11858), its evaluation's values.
_SIGMAS |= {"mid_hip": 0.107, "big_toe": 0.068, "small_toe": 0.066, "heel": 0.066}


def _skeleton(
    name: str,
    joints: tuple[str, ...],
    limbs: tuple[tuple[int, int], ...],
    annotated: tuple[str, ...],
    midpoints: dict[str, str],
) -> Skeleton:
    """A skeleton whose sides are told by the names of its joints."""

    def mirrored(joint: str) -> str:
        for side, other in (("left_", "right_"), ("right_", "left_")):
            if joint.startswith(side):
                return other + joint.removeprefix(side)
        return joint

    return Skeleton(
        name=name,
        joints=joints,
        limbs=limbs,
        mirror=tuple(joints.index(mirrored(joint)) for joint in joints),
        sigmas=tuple(
            _SIGMAS[joint.removeprefix("left_").removeprefix("right_")] for joint in joints
        ),
        annotated=tuple(joints.index(joint) for joint in annotated),
        midpoints=tuple(
            (joints.index(joint), joints.index(f"left_{ends}"), joints.index(f"right_{ends}"))
            for joint, ends in midpoints.items()
        ),
    )


_FEET = tuple(
    f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")
)

# Joints: POSE_BODY_25_BODY_PARTS; limbs: POSE_BODY_PART_PAIRS in the order of POSE_MAP_INDEX
# (openpose src/openpose/pose/poseParameters.cpp at 5c5d965).
BODY_25: Final = _skeleton(
    "body_25",
    (
        *BODYPOSE_18.joints[:8],
        "mid_hip",
        *("right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle"),
        *("right_eye", "left_eye", "right_ear", "left_ear"),
        *_FEET,
    ),
    (
        *((1, 8), (9, 10), (10, 11), (8, 9), (8, 12), (12, 13), (13, 14)),
        *((1, 2), (2, 3), (3, 4), (2, 17), (1, 5), (5, 6), (6, 7), (5, 18)),
        *((1, 0), (0, 15), (0, 16), (15, 17), (16, 18)),
        *((14, 19), (19, 20), (14, 21), (11, 22), (22, 23), (11, 24)),
    ),
    (*BODYPOSE_18.annotated_joints, *_FEET),
    {"neck": "shoulder", "mid_hip": "hip"},
)

# Joints and limbs: trt_pose tasks/human_pose/human_pose.json at 336b8cd, which counts from 1.
TRT_POSE_18: Final = _skeleton(
    "trt_pose_18",
    (*BODYPOSE_18.annotated_joints, "neck"),
    (
        *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12)),
        *((5, 7), (6, 8), (7, 9), (8, 10)),
        *((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
        *((17, 0), (17, 5), (17, 6), (17, 11), (17, 12)),
    ),
    BODYPOSE_18.annotated_joints,
    {"neck": "shoulder"},
)
