"""What lies behind drawn people: a park and a hall."""

from __future__ import annotations

import cv2
import numpy as np

from .body import Floats, floats
from .picture import View


def park(view: View) -> Floats:
    """Sky with clouds, two rows of trees, a lawn and a path of gravel seven metres away."""
    height, width = view.is_ground.shape
    climb = np.clip(view.ray[..., 1:2] * 2.2, 0, 1)
    light = _mix(floats([0.51, 0.61, 0.75]), floats([0.43, 0.63, 1.03]), climb)
    clouds = 0.6 * view.noise(width / 6) + 0.3 * view.noise(width / 14)
    light += np.clip(clouds + 0.15 * view.noise(width / 30) - 0.55, 0, 1)[..., None] * 1.2
    rows = np.mgrid[0:height, 0:width][0]
    for metres_away, tall, colour, trees in (
        (70, 6.5, (0.16, 0.25, 0.17), 16),
        (34, 4.2, (0.07, 0.15, 0.05), 26),
    ):
        crowns = view.noise(width / trees)[0] * 0.55 + view.noise(width / trees / 4)[0] * 0.3
        top = view.horizon_y - view.focal_px * tall * (0.45 + 0.55 * crowns) / metres_away
        cover = np.clip((rows - top[None, :]) / 3, 0, 1)[..., None]
        leaves = 0.55 + 0.9 * (0.6 * view.noise(10) + 0.4 * view.noise(4))
        light = _mix(light, floats(colour) * leaves[..., None], cover)
    x, z = view.ground_xz[..., 0], -view.ground_xz[..., 1]
    rough = 0.5 * view.noise(3) + 0.3 * view.noise(9) + 0.4 * view.noise(40)
    grass = floats([0.14, 0.27, 0.06]) * (0.45 + 0.75 * rough)[..., None]
    gravel = floats([0.50, 0.44, 0.36]) * (0.65 + 0.45 * rough)[..., None]
    is_path = (np.abs(z - 7.2 - 0.25 * np.sin(x * 0.7)) < 1.15).astype(np.float32)
    ground = _mix(grass, gravel, cv2.GaussianBlur(is_path, (0, 0), 1.2)[..., None])
    ground = _mix(ground, floats([0.42, 0.5, 0.42]), np.clip(z / 70, 0, 0.55)[..., None])
    return _mix(light, ground, view.is_ground[..., None].astype(np.float32))


def hall(view: View) -> Floats:
    """A plain wall ten metres away, with windows, and a wooden floor."""
    wall_z = 10.0
    away = view.ray[..., 2]
    far = wall_z / np.maximum(-away, 1e-3)
    x, y = view.ray[..., 0] * far, view.ray[..., 1] * far
    plaster = floats([0.60, 0.57, 0.52]) * (0.85 + 0.2 * view.noise(60))[..., None]
    is_window = (np.abs((x + 100) % 4 - 2) < 1.1) & (y > 0.2) & (y < 2.4)
    is_bar = (np.abs((x + 100) % 4 - 2) < 0.04) | (np.abs(y - 1.3) < 0.04)
    glass = floats([0.75, 0.85, 0.98]) * (0.8 + 0.3 * view.noise(90))[..., None]
    wall = np.where((is_window & ~is_bar)[..., None], glass, plaster)
    x, z = view.ground_xz[..., 0], -view.ground_xz[..., 1]
    plank = np.floor(x / 0.14)
    shade = 0.8 + 0.25 * np.sin(plank * 12.9898 + np.floor(z / 1.4 + plank * 0.37) * 78.233)
    seam = np.where((x / 0.14) % 1 < 0.05, 0.7, 1.0)
    grain = 0.85 + 0.3 * view.noise(5)
    floor = floats([0.36, 0.21, 0.11]) * (shade * seam * grain)[..., None]
    is_floor = view.is_ground & (z < wall_z)
    return _mix(wall.astype(np.float32), floor, is_floor[..., None].astype(np.float32))


def _mix(one: Floats, other: Floats, share: Floats) -> Floats:
    return floats(one * (1 - share) + other * share)
