"""Poses drawn onto a photo."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from bodypose_client.formats import DISPLAY_MIN_SCORE
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .sides import Side, joint_sides

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Colour = tuple[int, int, int]


_OUTLINE: Colour = (16, 20, 28)
_SHIFT = 4  # OpenCV draws at 1/16 pixel
_CAP_POINTS = 9  # of the half circle at each end of a limb
# Line widths in pixels, relative to the person and to the picture.
_WIDTH_PER_PERSON = 0.022
_WIDTH_PER_PICTURE = (1 / 420, 1 / 110)  # thinnest, thickest; of the root of the picture's area
_WIDTH_PER_LIMB = 0.22
_THINNEST = 0.9
_TINY = 1.2  # pixels: lines of people about as tall as 50 pixels
_RADIUS_PER_WIDTH = 0.95
_CORE = 0.5  # of a joint's radius: a light dot, the larger the surer the joint
_SMALLEST_WITH_CORE = 2.0  # pixels
_CORE_COLOUR: Colour = (255, 255, 255)
_SURE_SCORE = 0.7  # a joint of this score or above is drawn solid
_FAINTEST = 0.5  # opacity of a joint of score 0
_LONGEST_LOOP = 4  # limbs; a longer loop is no part of a body's outline


def draw_poses(
    image: Pixels,
    poses: Poses,
    skeleton: Skeleton,
    *,
    min_score: float = DISPLAY_MIN_SCORE,
) -> Pixels:
    """A copy of the picture with people drawn on it, the surest person on top.

    Joints that were found are drawn (`FOUND_JOINT_SCORE`). Limbs have the colour of their side. The
    surer a joint is, the more solid it and its limbs are. Line widths follow the size of person and
    picture.

    Args:
        image: RGB (height, width, 3).
        poses: in the pixels of `image`.
        skeleton: whose joints `poses` has.
        min_score: people below this score are left out.
    """
    drawn = image.copy()
    sides = joint_sides(skeleton)
    for keypoints in poses.above(min_score).found_only().keypoints[::-1]:
        if (keypoints[:, 2] > 0).any():
            _Figure(keypoints, skeleton, sides, _line_width(keypoints, image)).draw_onto(drawn)
    return drawn


def _line_width(keypoints: Floats, image: Pixels) -> float:
    found = keypoints[keypoints[:, 2] > 0, :2]
    person = float(np.linalg.norm(np.ptp(found, axis=0)))
    picture = float(np.sqrt(image.shape[0] * image.shape[1]))
    thinnest, thickest = (picture * part for part in _WIDTH_PER_PICTURE)
    return max(_THINNEST, float(np.clip(person * _WIDTH_PER_PERSON, thinnest, thickest)))


class _Figure:
    """One person on a transparent layer that is just large enough.

    The layer is premultiplied RGBA: OpenCV's anti-aliasing blends all four channels alike.
    """

    def __init__(
        self, keypoints: Floats, skeleton: Skeleton, sides: tuple[Side, ...], width: float
    ) -> None:
        self._keypoints = keypoints
        self._sides = sides
        self._limbs = limbs_to_draw(keypoints, skeleton)
        self._widths = [self._limb_width(a, b, width) for a, b in self._limbs]
        self._joints = np.flatnonzero(keypoints[:, 2] > 0).tolist()
        self._is_tiny = width < _TINY
        self._outline_width = width * 0.28 if self._is_tiny else max(0.4, width * 0.28)
        found = keypoints[self._joints, :2]
        margin = 3 * width + 2
        self._origin = np.floor(found.min(axis=0) - margin).astype(int)
        size = np.ceil(found.max(axis=0) + margin).astype(int) - self._origin
        self._layer = np.zeros((size[1], size[0], 4), np.uint8)
        self._radii = {joint: self._joint_radius(joint, width) for joint in self._joints}

    def draw_onto(self, image: Pixels) -> None:
        limbs = list(zip(self._limbs, self._widths, strict=True))
        for (a, b), width in limbs:
            self._limb(a, b, width / 2 + self._outline_width, _OUTLINE)
        for joint, radius in self._radii.items():
            self._joint(joint, radius + self._outline_width, _OUTLINE)
        for (a, b), width in limbs:
            self._limb(a, b, width / 2, _side_of_limb(self._sides[a], self._sides[b]).value)
        for joint, radius in self._radii.items():
            self._joint(joint, radius, self._sides[joint].value)
            if radius >= _SMALLEST_WITH_CORE:
                self._joint(joint, radius * _CORE * self._surety(joint), _CORE_COLOUR)
        self._blend_onto(image)

    def _limb_width(self, a: int, b: int, width: float) -> float:
        """Short limbs, such as those of a face, are thinner than the others."""
        length = float(np.linalg.norm(self._keypoints[a, :2] - self._keypoints[b, :2]))
        return min(width, max(_THINNEST, length * _WIDTH_PER_LIMB))

    def _joint_radius(self, joint: int, width: float) -> float:
        widths = [w for limb, w in zip(self._limbs, self._widths, strict=True) if joint in limb]
        widest = max(widths, default=width)
        if self._is_tiny:  # dots wider than the limbs would run together
            return 0.5 * widest
        return _RADIUS_PER_WIDTH * widest

    def _surety(self, *joints: int) -> float:
        return min(float(self._keypoints[list(joints), 2].min()) / _SURE_SCORE, 1)

    def _opacity(self, *joints: int) -> float:
        return _FAINTEST + (1 - _FAINTEST) * self._surety(*joints)

    def _limb(self, a: int, b: int, radius: float, colour: Colour) -> None:
        corners = self._fixed(_capsule(self._keypoints[a, :2], self._keypoints[b, :2], radius))
        rgba = _rgba(colour, self._opacity(a, b))
        cv2.fillConvexPoly(self._layer, corners, rgba, cv2.LINE_AA, _SHIFT)

    def _joint(self, joint: int, radius: float, colour: Colour) -> None:
        x, y = self._fixed(self._keypoints[joint, :2]).tolist()
        rgba, size = _rgba(colour, self._opacity(joint)), round(radius * 2**_SHIFT)
        cv2.circle(self._layer, (x, y), size, rgba, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def _fixed(self, image_xy: Floats) -> NDArray[np.int32]:
        """Image pixels to OpenCV's fixed point, whose pixel centres are integers."""
        layer_xy = image_xy - self._origin - 0.5
        return np.round(layer_xy * 2**_SHIFT).astype(np.int32)

    def _blend_onto(self, image: Pixels) -> None:
        height, width = image.shape[:2]
        left, top = np.maximum(self._origin, 0)
        right, bottom = np.minimum(self._origin + self._layer.shape[1::-1], (width, height))
        if right <= left or bottom <= top:
            return
        x, y = self._origin
        layer = self._layer[top - y : bottom - y, left - x : right - x].astype(np.uint16)
        under = image[top:bottom, left:right]
        through = (under * (255 - layer[:, :, 3:]) + 127) // 255
        under[:] = np.minimum(layer[:, :, :3] + through, 255)


def limbs_to_draw(keypoints: Floats, skeleton: Skeleton) -> list[tuple[int, int]]:
    """The limbs of one person (J, 3) that show its body.

    Some skeletons have limbs that only help grouping, such as ear to shoulder. They close a loop of
    more than four limbs, so the longest limb of such a loop that is off the body's axis is left
    out; without the rest of the loop (a person seen from behind) it is drawn.
    """
    found = keypoints[:, 2] > 0
    on_axis = [joint == mirrored for joint, mirrored in enumerate(skeleton.mirror)]

    def order(limb: tuple[int, int]) -> tuple[bool, float]:
        a, b = limb
        length = float(np.linalg.norm(keypoints[a, :2] - keypoints[b, :2]))
        return not (on_axis[a] or on_axis[b]), length

    drawn: list[tuple[int, int]] = []
    for a, b in sorted((limb for limb in skeleton.limbs if found[list(limb)].all()), key=order):
        if _limbs_between(a, b, drawn) < _LONGEST_LOOP:
            drawn.append((a, b))
    return drawn


def _limbs_between(a: int, b: int, limbs: list[tuple[int, int]]) -> int:
    """Fewest limbs that lead from one joint to another; 0 when none do."""
    reached, steps = {a}, 0
    while True:
        next_to = {q for p, q in limbs if p in reached} | {p for p, q in limbs if q in reached}
        if next_to <= reached:
            return 0
        reached |= next_to
        steps += 1
        if b in reached:
            return steps


def _side_of_limb(a: Side, b: Side) -> Side:
    if a is b:
        return a
    return {a, b}.difference({Side.CENTRE}).pop() if Side.CENTRE in (a, b) else Side.CENTRE


def _capsule(start: Floats, end: Floats, radius: float) -> Floats:
    """Corners (2 * _CAP_POINTS, 2) of a line with round ends."""
    along = np.arctan2(end[1] - start[1], end[0] - start[0])
    turn = along + np.pi / 2 + np.linspace(0, np.pi, _CAP_POINTS)
    cap = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return np.concatenate([start + cap, end - cap]).astype(np.float32)


def _rgba(colour: Colour, opacity: float) -> tuple[float, ...]:
    return tuple(channel * opacity for channel in (*colour, 255))
