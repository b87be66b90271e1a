"""Planes of made-up numbers at made-up places become the pixels that libjpeg and OpenCV make."""

import itertools

import cv2
import numpy as np
import pytest

from pose_runtime.letterbox_in_torch import COLOUR, GREY, PIXELS, Fact, letterbox
from pose_runtime.orientation import upright

torch = pytest.importorskip("torch")
RANDOM = np.random.default_rng(4)
HW = (10, 14)


def planes_and_facts(planes, kind, up, orientation, placed_hw, offset_yx):
    """One image's planes behind each other, with rows longer than they need to be."""
    memory = [RANDOM.integers(0, 256, 5, np.uint8)]
    starts, pitches = [], []
    for plane in planes:
        starts.append(sum(map(len, memory)))
        pitches.append(plane.shape[1] + 3)
        rows = RANDOM.integers(0, 256, (plane.shape[0], pitches[-1]), np.uint8)
        rows[:, : plane.shape[1]] = plane
        memory.append(rows.ravel())
    facts = np.zeros(len(Fact), np.int32)
    facts[[Fact.KIND, Fact.ORIENTATION]] = kind, orientation
    facts[[Fact.ROWS, Fact.COLUMNS]] = planes[0].shape
    facts[[Fact.C_ROWS, Fact.C_COLUMNS]] = planes[-1].shape
    facts[[Fact.UP_ROWS, Fact.UP_COLUMNS]] = up
    facts[[Fact.PLACED_ROWS, Fact.PLACED_COLUMNS]] = placed_hw
    facts[[Fact.TOP, Fact.LEFT]] = offset_yx
    facts[[Fact.Y_AT, Fact.CB_AT, Fact.CR_AT]] = (starts * 3)[:3]
    facts[[Fact.Y_PITCH, Fact.C_PITCH]] = pitches[0], pitches[-1]
    return np.concatenate(memory), facts


def seen(*images, network_hw):
    """What the network gets of images of `planes_and_facts`."""
    sizes = [len(memory) for memory, _ in images]
    starts = np.cumsum([0, *sizes[:-1]])
    facts = np.stack([each for _, each in images])
    facts[:, [Fact.Y_AT, Fact.CB_AT, Fact.CR_AT]] += starts[:, None].astype(np.int32)
    memory = torch.from_numpy(np.concatenate([memory for memory, _ in images]))
    return letterbox(memory, torch.from_numpy(facts), network_hw).numpy()


def colour_planes(up):
    sides = [-(-side // (1 + twice)) for side, twice in zip(HW, up, strict=True)]
    chroma = RANDOM.integers(60, 200, (2, *sides), np.uint8)
    return [RANDOM.integers(0, 256, HW, np.uint8), *chroma]


def whole(plane, up):
    """Cb or Cr at full size: three quarters of the nearest sample, one of the next, either way."""
    made = np.empty(HW, int)
    for place in np.ndindex(*HW):
        near, far = [], []
        for at, twice, count in zip(place, up, plane.shape, strict=True):
            near.append(at // (1 + twice))
            step = (1 if at % 2 else -1) if twice else 0
            far.append(min(max(near[-1] + step, 0), count - 1))
        total = sum(
            (3 if row == 0 else 1)
            * (3 if column == 0 else 1)
            * int(plane[(near, far)[row][0], (near, far)[column][1]])
            for row, column in itertools.product((0, 1), repeat=2)
        )
        is_odd = place[1] % 2
        # jdsample.c adds 8 and 7 sixteenths where rows are doubled, else one and two quarters.
        made[place] = (total + ((8, 7) if up[0] else (4, 8))[is_odd]) // 16
    return made


def rgb_of(planes, up):
    """JFIF's colours, in the whole numbers of libjpeg-turbo's jdcolor.c: 65,536 is 1."""
    y = planes[0].astype(np.int64)
    cb, cr = (whole(plane, up).astype(np.int64) - 128 for plane in planes[1:])
    half = 1 << 15
    red, blue = (91881 * cr + half) >> 16, (116130 * cb + half) >> 16
    green = (-22554 * cb - 46802 * cr + half) >> 16
    return np.clip(np.stack([y + red, y + green, y + blue], axis=-1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("up", [(0, 0), (0, 1), (1, 1)])
def test_colours_at_full_size_are_libjpegs_in_every_orientation(up, orientation):
    planes = colour_planes(up)
    wanted = upright(rgb_of(planes, up), orientation)
    hw = wanted.shape[:2]
    image = planes_and_facts(planes, COLOUR, up, orientation, hw, (0, 0))

    assert np.abs(seen(image, network_hw=hw)[0].astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("placed_hw", [(10, 14), (20, 28), (7, 9), (5, 7), (31, 43)])
@pytest.mark.parametrize("offset_yx", [(0, 0), (3, 5)])
def test_pictures_are_resized_as_opencv_does_and_grey_around(placed_hw, offset_yx):
    planes = colour_planes((1, 1))
    (height, width), (top, left) = placed_hw, offset_yx
    network_hw = (top + height + 2, left + width + 4)
    wanted = np.full((*network_hw, 3), 128, np.uint8)
    wanted[top : top + height, left : left + width] = cv2.resize(
        rgb_of(planes, (1, 1)), (width, height), interpolation=cv2.INTER_LINEAR
    )
    image = planes_and_facts(planes, COLOUR, (1, 1), 1, placed_hw, offset_yx)

    found = seen(image, network_hw=network_hw)[0].astype(int)

    assert np.abs(found - wanted).max() <= 1
    outside = np.ones(network_hw, bool)
    outside[top : top + height, left : left + width] = False
    assert (found[outside] == 128).all()


def test_grey_colour_and_ready_pixels_lie_side_by_side():
    grey = [RANDOM.integers(0, 256, HW, np.uint8)]
    colour = colour_planes((0, 1))
    ready = RANDOM.integers(0, 256, (*HW, 3), np.uint8)
    facts = np.zeros(len(Fact), np.int32)
    facts[[Fact.KIND, Fact.Y_AT]] = PIXELS, 5
    before = RANDOM.integers(0, 256, 5, np.uint8)

    found = seen(
        planes_and_facts(grey, GREY, (0, 0), 1, HW, (0, 0)),
        (np.concatenate([before, ready.ravel()]), facts),
        planes_and_facts(colour, COLOUR, (0, 1), 1, HW, (0, 0)),
        network_hw=HW,
    )

    assert found.dtype == np.uint8
    assert (found[0] == np.repeat(grey[0][..., None], 3, axis=2)).all()
    assert (found[1] == ready).all()
    assert (found[2] == rgb_of(colour, (0, 1))).all()
