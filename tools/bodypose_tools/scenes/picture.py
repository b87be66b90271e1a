"""A photo-like picture of drawn people: camera, ground, light and shadows.

Surfaces are found by sphere tracing (J. C. Hart, "Sphere tracing", The Visual Computer 12, 1996);
soft shadows and ambient occlusion are measured in the same distance field (I. Quilez,
iquilezles.org/articles/rmshadows).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .body import Body, Floats, Part, floats

Pixels = NDArray[np.uint8]

_LIGHT: Final = floats([0.424, 0.753, 0.503])  # towards the sun; length 1
_SUN: Final = floats([1.05, 1.0, 0.9])
_SKYLIGHT: Final = floats([0.36, 0.40, 0.48])
_BOUNCE: Final = floats([0.14, 0.13, 0.08])
_GAMMA = 2.2
_GRAIN = 2.0  # standard deviation of the noise, of 255
_HIT_M = 0.0015
_STEPS = 60
_BEHIND_M = 0.25  # a joint this far behind the first surface is hidden


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera above the origin that looks along -z.

    size: width, height in pixels. focal_px: focal length. pitch: upwards, radians.
    """

    size: tuple[int, int]
    focal_px: float
    height_m: float = 1.35
    pitch: float = -0.05

    @property
    def origin(self) -> Floats:
        return floats([0, self.height_m, 0])

    def times(self, factor: int) -> Camera:
        """The same view in more pixels."""
        width, height = self.size
        size = width * factor, height * factor
        return Camera(size, self.focal_px * factor, self.height_m, self.pitch)

    def project(self, world: Floats) -> tuple[Floats, Floats]:
        """Image pixels (..., 2) and the distance along the axis (...) of points (..., 3)."""
        seen = (world - self.origin) @ self._axes().T
        away = -seen[..., 2]
        centre = floats(self.size) / 2
        xy = np.stack([seen[..., 0], -seen[..., 1]], axis=-1) / away[..., None]
        return (xy * self.focal_px + centre).astype(np.float32), away

    def rays(self, image_xy: Floats) -> Floats:
        """Directions of length 1, (..., 3), of points of the image (..., 2)."""
        xy = (image_xy - floats(self.size) / 2) / self.focal_px
        ray = np.stack([xy[..., 0], -xy[..., 1], -np.ones_like(xy[..., 0])], axis=-1)
        return _normalised((ray @ self._axes()).astype(np.float32))

    def _axes(self) -> Floats:
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        return floats([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])


@dataclass(frozen=True, slots=True)
class View:
    """A picture's rays and where they meet the ground, for a backdrop to colour.

    ray: (H, W, 3). ground_xz: (H, W, 2) metres; is_ground: (H, W). rng: the backdrop's chances.
    """

    ray: Floats
    ground_xz: Floats
    is_ground: NDArray[np.bool_]
    horizon_y: float
    focal_px: float
    rng: np.random.Generator

    def noise(self, cell_px: float) -> Floats:
        """(H, W), smooth, in 0..1, with spots of `cell_px`."""
        height, width = self.is_ground.shape
        cell = max(1.0, cell_px)
        few = self.rng.random((int(height / cell) + 2, int(width / cell) + 2), np.float32)
        return cv2.resize(few, (width, height), interpolation=cv2.INTER_CUBIC)


Backdrop = Callable[[View], Floats]  # linear RGB (H, W, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What `draw_people` makes.

    pixels: RGB (H, W, 3). keypoints: (N, 17, 3), x, y in image pixels and COCO's visibility: 2
    seen, 1 hidden, 0 outside of the image. areas: (N,) visible pixels of each person.
    """

    pixels: Pixels
    keypoints: Floats
    areas: Floats


@dataclass(slots=True, eq=False)
class _Canvas:
    light: Floats
    depth: Floats
    owner: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        self.owner = np.full(self.depth.shape, -1, np.intp)


def draw_people(
    bodies: Sequence[Body], camera: Camera, backdrop: Backdrop, *, seed: int, fineness: int = 2
) -> Picture:
    """Draw people in front of a backdrop. The same arguments give the same picture.

    Args:
        bodies: the people; the nearer hides the farther.
        camera: of the picture that comes out.
        backdrop: colours sky and ground.
        seed: of the backdrop's texture and the picture's grain.
        fineness: rays of a pixel's side.
    """
    rng = np.random.default_rng(seed)
    fine = camera.times(fineness)
    view = _view(fine, rng)
    canvas = _Canvas(backdrop(view), np.full(view.is_ground.shape, np.inf, np.float32))
    canvas.light *= _ground_shadow(bodies, view)[..., None]
    for number, body in enumerate(bodies):
        _draw(body, number, fine, canvas)
    shown = np.clip(canvas.light, 0, 1) ** (1 / _GAMMA) * 255
    shown = cv2.resize(shown.astype(np.float32), camera.size, interpolation=cv2.INTER_AREA)
    shown += rng.normal(0, _GRAIN, shown.shape)
    areas = [np.count_nonzero(canvas.owner == number) for number in range(len(bodies))]
    seen = [_seen(body, number, fine, canvas) for number, body in enumerate(bodies)]
    keypoints = floats(seen).reshape(-1, 17, 3)
    keypoints[..., :2] /= fineness
    return Picture(np.clip(shown, 0, 255).astype(np.uint8), keypoints, floats(areas) / fineness**2)


def _view(camera: Camera, rng: np.random.Generator) -> View:
    width, height = camera.size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + np.float32(0.5)
    ray = camera.rays(np.stack([x, y], axis=-1))
    down = -ray[..., 1]
    is_ground = down > 0.004
    far = np.where(is_ground, camera.height_m / np.maximum(down, 1e-4), 0)
    ground = np.stack([ray[..., 0] * far, ray[..., 2] * far], axis=-1).astype(np.float32)
    horizon = float(camera.project(floats([0, camera.height_m, -1e4]))[0][1])
    return View(ray, ground, is_ground, horizon, camera.focal_px, rng)


def _ground_shadow(bodies: Sequence[Body], view: View) -> Floats:
    shadow = np.ones(view.is_ground.shape, np.float32)
    for body in bodies:
        near = np.abs(view.ground_xz - body.place[[0, 2]]) < (2.2, 2.0)
        here = view.is_ground & near.all(axis=-1)
        x, z = view.ground_xz[here].T
        points = np.stack([x, np.zeros_like(x), z], axis=-1)
        contact = np.clip(body.distance(points + floats([0, 0.02, 0])) / 0.22, 0, 1)
        dark = (0.35 + 0.65 * _sunlit(body, points, 7)) * (0.55 + 0.45 * contact)
        shadow[here] = np.minimum(shadow[here], dark)
    return shadow


def _sunlit(body: Body, points: Floats, sharpness: float) -> Floats:
    """How much of the sun points see past a body, 0..1."""
    lit, way = np.ones(len(points), np.float32), np.full(len(points), 0.02, np.float32)
    for _ in range(14):
        gap = body.distance(points + _LIGHT * way[:, None])
        lit = np.minimum(lit, np.clip(sharpness * gap / way, 0, 1))
        way += np.clip(gap, 0.025, 0.4)
    return lit


def _draw(body: Body, number: int, camera: Camera, canvas: _Canvas) -> None:
    corners = np.stack(np.meshgrid(*zip(body.low, body.high, strict=True)), axis=-1).reshape(-1, 3)
    box, _ = camera.project(corners.astype(np.float32))
    left, top = np.maximum(np.floor(box.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(box.max(axis=0)), camera.size).astype(int)
    rows, columns = (each.ravel() for each in np.mgrid[top:bottom, left:right])
    if not len(rows):
        return
    rays = camera.rays(np.stack([columns, rows], axis=-1).astype(np.float32) + np.float32(0.5))
    hit, way = _traced(body, camera.origin, rays)
    front = hit & (way < canvas.depth[rows, columns])
    rows, columns, rays, way = rows[front], columns[front], rays[front], way[front]
    canvas.light[rows, columns] = _shaded(body, camera.origin + rays * way[:, None], rays)
    canvas.depth[rows, columns] = way
    canvas.owner[rows, columns] = number


def _traced(body: Body, origin: Floats, rays: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Which rays meet the body, and how far away."""
    radius = float(np.linalg.norm(body.high - body.low)) / 2
    first = max(0.2, float(np.linalg.norm((body.low + body.high) / 2 - origin)) - radius)
    way, hit = np.full(len(rays), first, np.float32), np.zeros(len(rays), np.bool_)
    live = np.arange(len(rays))
    for _ in range(_STEPS):
        gap = body.distance(origin + rays[live] * way[live, None])
        way[live] += gap * np.float32(0.9)
        hit[live[gap < _HIT_M]] = True
        live = live[(gap >= _HIT_M) & (way[live] < first + 2 * radius)]
        if not len(live):
            break
    return hit, way


def _shaded(body: Body, points: Floats, rays: Floats) -> Floats:
    """Linear RGB of points of a body's surface."""
    nearest = body.nearest(points)
    normals = _bumped(_normals(body, points), points, parts := body.parts[nearest])
    base = (body.colours(points, nearest) / 255) ** _GAMMA
    sun = _sunlit(body, points + normals * np.float32(0.012), 10)
    facing = np.clip((normals @ _LIGHT + 0.15) / 1.15, 0, 1) * (0.25 + 0.75 * sun)
    open_sky = np.ones(len(points), np.float32)
    for reach, weight in ((0.03, 0.3), (0.08, 0.3), (0.16, 0.18)):
        gap = body.distance(points + normals * np.float32(reach))
        open_sky -= np.clip(reach - gap, 0, None) * weight / reach
    up = (0.5 + 0.5 * normals[:, 1])[:, None]
    around = _SKYLIGHT * (0.3 + 0.7 * up) + _BOUNCE * (1 - up)
    light = around * np.clip(open_sky, 0.25, 1)[:, None] + _SUN * facing[:, None]
    half = _normalised(_LIGHT - rays)
    gloss = np.select(
        [(parts == Part.SKIN) | (parts == Part.HEAD), parts == Part.HAIR], [0.1, 0.16], 0.015
    )
    shine = np.clip((normals * half).sum(axis=1), 0, 1) ** 30 * gloss * sun
    return floats(base * light + shine[:, None])


def _normals(body: Body, points: Floats) -> Floats:
    steps = np.float32(0.004) * np.eye(3, dtype=np.float32)
    slopes = [body.distance(points + step) - body.distance(points - step) for step in steps]
    return _normalised(np.stack(slopes, axis=-1) + np.float32(1e-9))


def _bumped(normals: Floats, points: Floats, parts: NDArray[np.str_]) -> Floats:
    """Folds in clothes, strands in hair."""
    x, y, z = points.T
    fold = np.sin(y * 70 + np.sin(x * 33) * 2) + np.sin(x * 41 + y * 57 + z * 23)
    cloth = ((parts == Part.SHIRT) | (parts == Part.TROUSERS)) * np.float32(0.035)
    strand = (parts == Part.HAIR) * np.sin(x * 400) * np.float32(0.15)
    bump = np.stack([fold * cloth + strand, fold * cloth * 0.8, np.zeros_like(x)], axis=-1)
    return _normalised((normals + bump).astype(np.float32))


def _seen(body: Body, number: int, camera: Camera, canvas: _Canvas) -> Floats:
    """(17, 3): x, y in pixels of `camera`, and COCO's visibility."""
    joints = body.keypoints()
    image_xy, _ = camera.project(joints)
    away = np.linalg.norm(joints - camera.origin, axis=1)
    column, row = np.floor(image_xy).astype(int).T
    width, height = camera.size
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = np.where(inside, column, 0), np.where(inside, row, 0)
    in_front = canvas.depth[row, column]
    is_own = canvas.owner[row, column] == number
    hidden = np.where(is_own, away - in_front > _BEHIND_M * body.scale, in_front < away)
    visibility = np.where(inside, np.where(hidden, 1, 2), 0)
    keypoints = np.concatenate([image_xy, visibility[:, None]], axis=1)
    return floats(keypoints * inside[:, None])


def _normalised(vectors: Floats) -> Floats:
    return floats(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
