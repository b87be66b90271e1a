"""The letterbox on a GPU: planes of decoded JPEGs become the network's pixels, a batch at a time.

Every step repeats what libjpeg and OpenCV do on a CPU, so that a picture looks the same to the
network wherever it was decoded: within 1 of 255, on each of COCO's validation images.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any

from .letterbox import PADDING


class Fact(IntEnum):
    """Columns of the table that tells of each image where its planes lie, and how it is placed.

    Places are bytes from the start of the planes' memory.
    """

    KIND = 0  # GREY, COLOUR or PIXELS
    Y_AT = auto()
    CB_AT = auto()
    CR_AT = auto()
    Y_PITCH = auto()
    C_PITCH = auto()
    ROWS = auto()
    COLUMNS = auto()
    C_ROWS = auto()
    C_COLUMNS = auto()
    UP_ROWS = auto()  # 1 where a row of Cb and Cr stands for two
    UP_COLUMNS = auto()
    ORIENTATION = auto()
    PLACED_ROWS = auto()
    PLACED_COLUMNS = auto()
    TOP = auto()
    LEFT = auto()


GREY, COLOUR, PIXELS = range(3)


def letterbox(planes: Any, facts: Any, network_hw: tuple[int, int]) -> Any:
    """Decoded images at any place of `planes` as the network's input.

    Args:
        planes: (N,) uint8, all images' samples.
        facts: (B, len(Fact)) int32.
        network_hw: height H and width W.

    Returns:
        (B, H, W, 3) uint8, RGB; grey around each picture.

    Source: bilinear resampling as OpenCV's `resize`, upsampling of Cb and Cr as libjpeg-turbo's
    jdsample.c ("fancy"), colours as its jdcolor.c.
    """
    import torch

    def fact(name: Fact) -> Any:
        return facts[:, name].reshape(-1, 1, 1)

    height, width = network_hw
    row = torch.arange(height, dtype=torch.int32, device=planes.device).reshape(1, -1, 1)
    column = torch.arange(width, dtype=torch.int32, device=planes.device).reshape(1, 1, -1)
    swapped = fact(Fact.ORIENTATION) >= 5
    rows = torch.where(swapped, fact(Fact.COLUMNS), fact(Fact.ROWS))
    columns = torch.where(swapped, fact(Fact.ROWS), fact(Fact.COLUMNS))
    y, x = row - fact(Fact.TOP), column - fact(Fact.LEFT)
    y0, y1, down = _taps(y, rows, fact(Fact.PLACED_ROWS))
    x0, x1, right = _taps(x, columns, fact(Fact.PLACED_COLUMNS))
    corners = [
        [_colours(planes, fact, *_stored(fact, rows, columns, r, c)) for c in (x0, x1)]
        for r in (y0, y1)
    ]
    inside = (y >= 0) & (y < fact(Fact.PLACED_ROWS)) & (x >= 0) & (x < fact(Fact.PLACED_COLUMNS))
    ready_at = fact(Fact.Y_AT) + (row * width + column) * 3
    channels = []
    for channel in range(3):
        (upper_left, upper_right), (lower_left, lower_right) = (
            [corner[channel].float() for corner in pair] for pair in corners
        )
        upper = upper_left + (upper_right - upper_left) * right
        lower = lower_left + (lower_right - lower_left) * right
        value = torch.floor(upper + (lower - upper) * down + 0.5).to(torch.int32)
        value = torch.where(inside, value, PADDING)
        is_ready = fact(Fact.KIND) == PIXELS
        ready = planes[torch.where(is_ready, ready_at + channel, 0).long()].to(torch.int32)
        channels.append(torch.where(is_ready, ready, value).to(torch.uint8))
    return torch.stack(channels, dim=-1)


def _taps(place: Any, side: Any, placed: Any) -> tuple[Any, Any, Any]:
    """The two samples of a side between which each place lies, and the second one's weight."""
    import torch

    at = (place.float() + 0.5) * (side.float() / placed.float().clamp(min=1)) - 0.5
    first = torch.floor(at)
    weight = at - first
    first = first.to(torch.int32)
    last = (side - 1).clamp(min=0)
    zero = torch.zeros_like(last)
    return (
        torch.minimum(torch.maximum(first, zero), last),
        torch.minimum(torch.maximum(first + 1, zero), last),
        weight,
    )


def _stored(fact: Any, rows: Any, columns: Any, y: Any, x: Any) -> tuple[Any, Any]:
    """Row and column as stored, of those that a person sees; see `orientation.upright`."""
    import torch

    orientation = fact(Fact.ORIENTATION)
    flips_rows = (orientation == 3) | (orientation == 4) | (orientation >= 7)
    flips_columns = (
        (orientation == 2) | (orientation == 3) | (orientation == 6) | (orientation == 7)
    )
    y = torch.where(flips_rows, rows - 1 - y, y)
    x = torch.where(flips_columns, columns - 1 - x, x)
    swapped = orientation >= 5
    return torch.where(swapped, x, y), torch.where(swapped, y, x)


def _colours(planes: Any, fact: Any, row: Any, column: Any) -> tuple[Any, Any, Any]:
    """R, G, B of samples at full size, in 0..255, as integers."""
    import torch

    known = fact(Fact.KIND) != PIXELS

    def sample(at: Fact, pitch: Fact, row: Any, column: Any) -> Any:
        place = fact(at) + row * fact(pitch) + column
        return planes[torch.where(known, place, 0).long()].to(torch.int32)

    y = sample(Fact.Y_AT, Fact.Y_PITCH, row, column)
    near_row, far_row = _neighbours(row, fact(Fact.UP_ROWS), fact(Fact.C_ROWS))
    near_column, far_column = _neighbours(column, fact(Fact.UP_COLUMNS), fact(Fact.C_COLUMNS))
    is_even = column % 2 == 0
    bias = torch.where(
        fact(Fact.UP_ROWS) == 1, torch.where(is_even, 8, 7), torch.where(is_even, 4, 8)
    )

    def chroma(at: Fact) -> Any:
        near, far = (
            3 * sample(at, Fact.C_PITCH, near_row, each) + sample(at, Fact.C_PITCH, far_row, each)
            for each in (near_column, far_column)
        )
        value = (3 * near + far + bias) >> 4
        return torch.where(fact(Fact.KIND) == COLOUR, value, 128) - 128

    cb, cr = chroma(Fact.CB_AT), chroma(Fact.CR_AT)
    half = 1 << 15  # numbers of 16 bits behind the point
    red = y + ((91881 * cr + half) >> 16)
    green = y + ((half - 22554 * cb - 46802 * cr) >> 16)
    blue = y + ((116130 * cb + half) >> 16)
    return red.clamp(0, 255), green.clamp(0, 255), blue.clamp(0, 255)


def _neighbours(place: Any, up: Any, side: Any) -> tuple[Any, Any]:
    """The sample of Cb or Cr that is near a place at full size, and the next nearest one."""
    import torch

    near = place >> up
    far = torch.where(up == 1, near + 2 * (place & 1) - 1, near)
    last = (side - 1).clamp(min=0)
    zero = torch.zeros_like(last)
    return torch.minimum(near, last), torch.minimum(torch.maximum(far, zero), last)
