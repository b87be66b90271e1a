"""The side of the body that each joint belongs to, and the colour of each side."""

from __future__ import annotations

from enum import Enum

from pose_runtime.skeleton import Skeleton


class Side(Enum):
    """Which half of the body a joint or limb belongs to, as its RGB colour.

    Blue and orange stay apart for every common kind of colour blindness.
    """

    LEFT = (64, 196, 255)
    RIGHT = (255, 152, 56)
    CENTRE = (240, 244, 250)


def joint_sides(skeleton: Skeleton) -> tuple[Side, ...]:
    """The side of each joint: from its name, or from the order of a mirrored pair without names."""
    sides = []
    for joint, mirrored in enumerate(skeleton.mirror):
        words = skeleton.joints[joint].lower().replace("-", "_").split("_")
        if joint == mirrored:
            sides.append(Side.CENTRE)
        elif {"left", "l"} & set(words):
            sides.append(Side.LEFT)
        elif {"right", "r"} & set(words):
            sides.append(Side.RIGHT)
        else:
            sides.append(Side.LEFT if joint < mirrored else Side.RIGHT)
    return tuple(sides)
