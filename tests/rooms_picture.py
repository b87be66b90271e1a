"""The rooms of `bodypose_tools` as a picture, drawn from the table that the import test holds.

python -m tests.rooms_picture        # writes docs/rooms.svg
"""

from __future__ import annotations

import ast
from html import escape
from pathlib import Path
from textwrap import wrap

from tests.unit.test_imports import MAY_IMPORT, PLACES

PICTURE = Path(__file__).parents[1] / "docs" / "rooms.svg"

# What a person is doing, and the rooms that are for it; top to bottom as imports go.
FLOORS = (
    ("show numbers", ("pages",)),
    ("measure", ("experiments", "benchmark", "soak")),
    ("serve", ("deploying", "server", "repository")),
    ("adopt", ("adoption",)),
    ("make small", ("pruning", "export", "quantisation")),
    ("train, evaluate", ("training", "evaluation", "bulk")),
    ("run a model", ("runtimes", "engines")),
    ("data, weights", ("data", "scenes", "pretrained")),
    ("ground", ("networks", "graphs", "results", "files")),
)
COMMAND = ("cli.py", "which commands there are; each room's commands.py speaks and decides nothing")
BELOW = [
    (
        "bodypose_client",
        "images in, people out, through a server; its room scoring has COCO's numbers",
    ),
    (
        "pose_runtime",
        "the vocabulary: skeleton, spec, letterbox, images, grouping, poses; copied into every"
        " built repository",
    ),
]
_WIDTH, _ROW, _LEFT, _GAP = 1120, 96, 130, 12


def rooms_svg() -> str:
    """The picture as SVG: a row a floor, a box a room, in it what the room owns."""
    height = 40 + _ROW * (len(FLOORS) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="24" font-size="14" fill="#444">bodypose_tools: a room may import'
        " rooms below it only, and only those in its row of tests/unit/test_imports.py</text>",
    ]
    parts += _floor(0, "the command", [COMMAND], "#e8eef7")
    for number, (doing, rooms) in enumerate(FLOORS, 1):
        boxes = [(room, _owns(f"{room}/__init__.py")) for room in rooms]
        parts += _floor(number, doing, boxes, "#f3efe4")
    parts += _floor(len(FLOORS) + 1, "other packages", BELOW, "#e6f2ea")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _owns(file: str) -> str:
    return ast.get_docstring(ast.parse((PLACES["bodypose_tools"] / file).read_text())) or ""


def _floor(number: int, doing: str, boxes: list[tuple[str, str]], colour: str) -> list[str]:
    top = 40 + number * _ROW
    width = (_WIDTH - _LEFT - _GAP * len(boxes)) / len(boxes)
    parts = [f'<text x="10" y="{top + 40}" font-size="14" fill="#777">{escape(doing)}</text>']
    for place, (name, owns) in enumerate(boxes):
        left = _LEFT + place * (width + _GAP)
        parts.append(
            f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{_ROW - 14}" rx="6"'
            f' fill="{colour}" stroke="#888"/>'
        )
        parts.append(
            f'<text x="{left + 10:.0f}" y="{top + 20}" font-size="15" font-weight="bold">'
            f"{escape(name)}</text>"
        )
        for row, line in enumerate(wrap(owns, int(width / 7.2))[:4]):
            parts.append(
                f'<text x="{left + 10:.0f}" y="{top + 36 + 14 * row}" font-size="12">'
                f"{escape(line)}</text>"
            )
    return parts


def rooms_drawn_too_low() -> set[str]:
    """Rooms of the import table that are drawn above one that imports them, or not at all."""
    floors = {room: number for number, (_, rooms) in enumerate(FLOORS) for room in rooms}
    return {
        other
        for room, others in MAY_IMPORT.items()
        for other in others.split()
        if floors.get(other, -1) < floors.get(room, len(FLOORS))
    }


if __name__ == "__main__":
    PICTURE.write_text(rooms_svg())
