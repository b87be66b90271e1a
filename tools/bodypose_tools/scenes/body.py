"""A drawn person's body: joints, shape and colours of its surface.

The shape is a signed distance field: capsules whose radius changes along the axis, blended where
they meet by the polynomial smooth minimum.

Source: I. Quilez, "Smooth minimum" and "Distance functions" (iquilezles.org/articles).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose_runtime.skeleton import BODYPOSE_18

from .stances import STANCES, Stance

Floats = NDArray[np.float32]
Colour = tuple[int, int, int]  # sRGB, 0..255
_Add = Callable[[Floats, Floats, float, float, "Part"], None]

_HEIGHT_M = 1.75  # of the body whose lengths stand below
_LENGTHS_M: Final[Mapping[str, float]] = {
    "upper_arm": 0.285,
    "forearm": 0.25,
    "thigh": 0.43,
    "shank": 0.41,
    "foot": 0.15,
}
_SIDES: Final[Mapping[str, int]] = {"left": 1, "right": -1}
_SOLE_M = 0.07  # of an ankle above the ground
_BLEND_M = 0.03
_CHUNK = 8192  # points at a time: they stay in the processor's cache


def floats(values: ArrayLike) -> Floats:
    """An array of float32."""
    return np.asarray(values, np.float32)


class Part(StrEnum):
    """What a piece of surface is."""

    SKIN = "skin"
    HEAD = "head"
    HAIR = "hair"
    SHIRT = "shirt"
    TROUSERS = "trousers"
    SHOES = "shoes"


class Hair(StrEnum):
    """How hair is worn."""

    SHORT = "short"
    LONG = "long"
    BUN = "bun"


@dataclass(frozen=True, slots=True)
class Look:
    """Colours and clothes of one person.

    sleeve, trouser: how far clothes go, in limb segments: 0.5 is a T-shirt, 1.9 to the wrist.
    """

    skin: Colour = (224, 172, 140)
    shirt: Colour = (214, 66, 52)
    trousers: Colour = (52, 66, 98)
    hair: Colour = (60, 38, 22)
    shoes: Colour = (42, 42, 47)
    stripes: Colour | None = None
    sleeve: float = 0.55
    trouser: float = 1.95
    hairstyle: Hair = Hair.SHORT
    bearded: bool = False


@dataclass(frozen=True, slots=True)
class _Capsule:
    start: Floats
    end: Floats
    radii: tuple[float, float]
    part: Part


class Body:
    """One person in the world: x to the right, y up, z towards the camera; metres."""

    def __init__(
        self,
        place_xz: tuple[float, float],
        stance: Stance = STANCES["standing"],
        look: Look | None = None,
        yaw_deg: float = 0,
        height_m: float = _HEIGHT_M,
    ) -> None:
        self.look = look or Look()
        self.scale = height_m / _HEIGHT_M
        self._turn = _turn(yaw_deg)
        joints = _joints(stance)
        lowest = min(
            float(joints[f"{side}_{end}"][1]) for side in _SIDES for end in ("ankle", "toe")
        )
        self.place = floats([place_xz[0], 0, place_xz[1]])
        lift = floats([0, _SOLE_M - lowest + _number(stance, "air"), 0])
        self.joints = {
            name: self._turn @ ((joint + lift) * np.float32(self.scale)) + self.place
            for name, joint in joints.items()
        }
        self._face(stance)
        self._capsules = self._shape()
        self.parts = np.array([capsule.part.value for capsule in self._capsules])
        ends = [(c.start, c.end, np.float32(max(c.radii))) for c in self._capsules]
        self.low = np.min([np.minimum(a, b) - r for a, b, r in ends], axis=0)
        self.high = np.max([np.maximum(a, b) + r for a, b, r in ends], axis=0)

    def keypoints(self) -> Floats:
        """(17, 3): COCO's keypoints in the world."""
        return np.stack([self.joints[name] for name in BODYPOSE_18.annotated_joints])

    def distance(self, points: Floats) -> Floats:
        """Metres from the surface, negative inside. `points`: (n, 3)."""
        return self._measure(points)[0]

    def nearest(self, points: Floats) -> NDArray[np.intp]:
        """The part whose surface is nearest: an index into `parts`."""
        return self._measure(points)[1]

    def _measure(self, points: Floats) -> tuple[Floats, NDArray[np.intp]]:
        if len(points) > _CHUNK:
            chunks = [
                self._measure(points[at : at + _CHUNK]) for at in range(0, len(points), _CHUNK)
            ]
            return np.concatenate([c[0] for c in chunks]), np.concatenate([c[1] for c in chunks])
        blended = np.full(len(points), 9, np.float32)
        smallest, nearest = blended.copy(), np.zeros(len(points), np.intp)
        for index, capsule in enumerate(self._capsules):
            axis, start = capsule.end - capsule.start, points - capsule.start
            along = np.clip(start @ axis / max(float(axis @ axis), 1e-9), 0, 1)
            first, last = capsule.radii
            away = start - along[:, None] * axis
            gap = np.sqrt(np.einsum("ij,ij->i", away, away)) - (first + (last - first) * along)
            closer = gap < smallest
            nearest[closer] = index
            smallest = np.minimum(smallest, gap)
            sharp = capsule.part in (Part.HAIR, Part.SHOES)
            blend = np.float32(_BLEND_M * self.scale * (0.3 if sharp else 1))
            both = np.maximum(blend - np.abs(blended - gap), 0) / blend
            blended = np.minimum(blended, gap) - both * both * blend * np.float32(0.25)
        return blended, nearest

    def colours(self, points: Floats, nearest: NDArray[np.intp]) -> Floats:
        """(n, 3) sRGB in 0..255 of points of the surface, with face, hairline and stripes."""
        look, parts = self.look, self.parts[nearest]
        colours = np.zeros((len(points), 3), np.float32)
        for part, colour in (
            (Part.SKIN, look.skin),
            (Part.HEAD, look.skin),
            (Part.HAIR, look.hair),
            (Part.SHIRT, look.shirt),
            (Part.TROUSERS, look.trousers),
            (Part.SHOES, look.shoes),
        ):
            colours[parts == part] = colour
        if look.stripes:
            spine = self.joints["neck"] - self.joints["pelvis"]
            up = (points - self.joints["pelvis"]) @ (spine / np.linalg.norm(spine)) / self.scale
            colours[(parts == Part.SHIRT) & (up * 14 % 1 < 0.4)] = look.stripes
        self._paint_face(colours, points, parts)
        return colours

    def _paint_face(self, colours: Floats, points: Floats, parts: NDArray[np.str_]) -> None:
        look = self.look
        skin, hair = floats(look.skin), floats(look.hair)
        x, y, z = ((points - self.joints["head"]) @ self._head / np.float32(self.scale)).T
        bare = (z > 0.035) & (y < 0.075 + 0.02 * np.cos(x * 30)) & (np.abs(x) < 0.083)
        if look.hairstyle is not Hair.LONG:
            bare |= ((z > 0.012) & (y < 0.03)) | ((z > -0.03) & (y < -0.01))
        on_head = (parts == Part.HAIR) & (np.abs(y) < 0.2)
        colours[on_head & bare] = skin
        face = ((parts == Part.HEAD) | on_head) & (z > 0.03)

        def paint(where: NDArray[np.bool_], colour: Floats | Colour, opacity: float = 1) -> None:
            colours[where] = colours[where] * (1 - opacity) + floats(colour) * opacity

        def ellipse(x0: float, y0: float, width: float, height: float) -> NDArray[np.bool_]:
            return face & (((x - x0) / width) ** 2 + ((y - y0) / height) ** 2 < 1)

        for side in (1, -1):
            eye = 0.034 * side
            paint(ellipse(eye, 0.02, 0.021, 0.015), skin * 0.75, 0.5)
            paint(ellipse(eye, 0.02, 0.0155, 0.0085), (236, 233, 229))
            paint(ellipse(eye, 0.02, 0.0078, 0.0085), (45, 32, 25))
            brow = 0.047 - (np.abs(x) - 0.034) * 0.12
            paint(face & (np.abs(x - eye) < 0.019) & (np.abs(y - brow) < 0.004), hair * 0.8, 0.85)
            paint(ellipse(eye + 0.01 * side, -0.03, 0.02, 0.017), (215, 110, 95), 0.16)
        if look.bearded:
            paint(face & (y < -0.035), hair, 0.75)
        smile = face & ((x / 0.028) ** 2 + ((y + 0.06 - 9 * x * x) / 0.0075) ** 2 < 1)
        paint(smile, (168, 72, 70), 0.85)

    def _face(self, stance: Stance) -> None:
        up = _unit(_vector(stance, "neck"))
        front = _turn(_number(stance, "gaze")) @ floats([0, 0, 1])
        front = _unit(front - up * (front @ up))
        self._head = self._turn @ np.stack([np.cross(up, front), up, front], axis=1)
        self.joints["nose"] = self._on_head(0, -0.015, 0.115)
        for side, sign in _SIDES.items():
            self.joints[f"{side}_eye"] = self._on_head(0.034 * sign, 0.02, 0.095)
            self.joints[f"{side}_ear"] = self._on_head(0.082 * sign, 0, -0.005)

    def _on_head(self, x: float, y: float, z: float) -> Floats:
        return self.joints["head"] + self._head @ (floats([x, y, z]) * np.float32(self.scale))

    def _shape(self) -> list[_Capsule]:
        capsules: list[_Capsule] = []
        scale = self.scale

        def add(start: Floats, end: Floats, first: float, last: float, part: Part) -> None:
            ends = floats(start), floats(end)
            capsules.append(_Capsule(*ends, (first * scale, last * scale), part))

        self._add_trunk(add)
        for side in _SIDES:
            self._add_arm(add, side)
            self._add_leg(add, side)
        self._add_head(add)
        return capsules

    def _add_trunk(self, add: _Add) -> None:
        pelvis, neck, scale = self.joints["pelvis"], self.joints["neck"], self.scale
        spine = _unit(neck - pelvis)
        across = _unit(self.joints["left_hip"] - self.joints["right_hip"])
        shoulders = _unit(self.joints["left_shoulder"] - self.joints["right_shoulder"])
        for sign in (1, -1):
            add(
                pelvis + across * (0.055 * sign * scale) + spine * (0.06 * scale),
                neck - spine * (0.14 * scale) + shoulders * (0.085 * sign * scale),
                0.097,
                0.1,
                Part.SHIRT,
            )
        yoke = neck - spine * (0.078 * scale)
        add(
            yoke - shoulders * (0.135 * scale),
            yoke + shoulders * (0.135 * scale),
            0.064,
            0.064,
            Part.SHIRT,
        )
        add(
            pelvis - across * (0.06 * scale),
            pelvis + across * (0.06 * scale),
            0.105,
            0.105,
            Part.TROUSERS,
        )
        throat = neck * np.float32(0.4) + self.joints["head"] * np.float32(0.6)
        add(neck - spine * (0.06 * scale), throat, 0.058, 0.052, Part.SKIN)

    def _add_arm(self, add: _Add, side: str) -> None:
        joints, sleeve = self.joints, np.float32(self.look.sleeve)
        shoulder, elbow, wrist = (joints[f"{side}_{end}"] for end in ("shoulder", "elbow", "wrist"))
        add(shoulder, elbow, 0.043, 0.038, Part.SKIN)
        add(elbow, wrist, 0.04, 0.026, Part.SKIN)
        add(
            wrist + (wrist - elbow) * np.float32(0.1),
            joints[f"{side}_hand"],
            0.034,
            0.028,
            Part.SKIN,
        )
        top = shoulder + (elbow - shoulder) * np.float32(0.03)
        add(
            top,
            shoulder + (elbow - shoulder) * min(sleeve, np.float32(1)),
            0.057,
            0.052,
            Part.SHIRT,
        )
        if sleeve > 1:
            add(elbow, elbow + (wrist - elbow) * (sleeve - 1), 0.052, 0.04, Part.SHIRT)

    def _add_leg(self, add: _Add, side: str) -> None:
        joints, trouser = self.joints, np.float32(self.look.trouser)
        hip, knee, ankle, toe = (joints[f"{side}_{end}"] for end in ("hip", "knee", "ankle", "toe"))
        add(hip, knee, 0.082, 0.056, Part.SKIN if trouser < 1 else Part.TROUSERS)
        add(knee, ankle, 0.055, 0.036, Part.SKIN)
        if trouser < 1:
            add(hip, hip + (knee - hip) * trouser, 0.097, 0.085, Part.TROUSERS)
        else:
            add(knee, knee + (ankle - knee) * (trouser - 1), 0.066, 0.05, Part.TROUSERS)
        down = floats([0, -self.scale, 0])
        heel = ankle - _unit(toe - ankle) * (0.03 * self.scale)
        add(heel + down * 0.035, toe + down * 0.02, 0.045, 0.04, Part.SHOES)

    def _add_head(self, add: _Add) -> None:
        at = self._on_head
        add(at(0, 0.035, -0.02), at(0, 0.03, 0.012), 0.092, 0.088, Part.HEAD)
        add(at(0, -0.03, 0.018), at(0, -0.065, 0.04), 0.07, 0.046, Part.HEAD)
        add(at(0, 0.01, 0.098), at(0, -0.02, 0.112), 0.009, 0.014, Part.HEAD)
        for sign in (1, -1):
            ear = at(0.083 * sign, 0.015, -0.01), at(0.083 * sign, -0.015, -0.005)
            add(*ear, 0.018, 0.013, Part.HEAD)
        add(at(0, 0.055, -0.035), at(0, 0.055, -0.01), 0.098, 0.092, Part.HAIR)
        if self.look.hairstyle is Hair.LONG:
            for sign in (1, 0, -1):
                add(
                    at(0.05 * sign, 0.04, -0.055),
                    at(0.06 * sign, -0.16, -0.065),
                    0.06,
                    0.04,
                    Part.HAIR,
                )
        if self.look.hairstyle is Hair.BUN:
            add(at(0, 0.11, -0.09), at(0, 0.12, -0.095), 0.05, 0.05, Part.HAIR)


def _joints(stance: Stance) -> dict[str, Floats]:
    """Joints around a pelvis at 0, 0, 0, of a body of `_HEIGHT_M`."""
    spine = _unit(_vector(stance, "spine"))
    joints = {"pelvis": np.zeros(3, np.float32), "neck": spine * np.float32(0.52)}
    joints["head"] = joints["neck"] + _unit(_vector(stance, "neck")) * np.float32(0.2)
    across = floats([1, 0, 0])
    level = _unit(across - spine * (across @ spine))
    for side, sign in _SIDES.items():
        joints[f"{side}_hip"] = across * np.float32(0.088 * sign)
        root = joints["neck"] - spine * np.float32(0.03)
        joints[f"{side}_shoulder"] = root + level * np.float32(0.185 * sign)
        for limb, start, end in (
            ("upper_arm", "shoulder", "elbow"),
            ("forearm", "elbow", "wrist"),
            ("thigh", "hip", "knee"),
            ("shank", "knee", "ankle"),
            ("foot", "ankle", "toe"),
        ):
            step = _unit(_vector(stance, f"{side}_{limb}")) * np.float32(_LENGTHS_M[limb])
            joints[f"{side}_{end}"] = joints[f"{side}_{start}"] + step
        forearm = _unit(_vector(stance, f"{side}_forearm"))
        joints[f"{side}_hand"] = joints[f"{side}_wrist"] + forearm * np.float32(0.09)
    return joints


def _vector(stance: Stance, name: str) -> Floats:
    return floats(stance[name])


def _number(stance: Stance, name: str) -> float:
    return float(np.asarray(stance[name]))


def _unit(vector: Floats) -> Floats:
    return floats(vector / np.linalg.norm(vector))


def _turn(degrees: float) -> Floats:
    """About the vertical axis, to the right in the picture when positive."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return floats([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
