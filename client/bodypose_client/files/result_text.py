"""People as text: what `pose-client infer --format` prints and writes for each image."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bodypose_client.formats import csv_header, csv_rows
from bodypose_client.results import ImagePoses
from pose_runtime.skeleton import Skeleton


class Format(StrEnum):
    """Forms of results for other programs."""

    COCO = "coco"
    OPENPOSE = "openpose"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class _Form:
    """Text is `before`, then every image's pieces with `between` between them, then `after`."""

    suffix: str  # of one image's file, after the image's whole name
    pieces: Callable[[ImagePoses], list[str]]
    before: Callable[[Skeleton], str] = lambda skeleton: ""
    between: str = ""
    after: str = ""


def result_file_name(image_name: str, form: Format) -> str:
    """The name of an image's results file: `folder/photo.jpg` -> `folder/photo.jpg.json`."""
    return image_name + _FORMS[form].suffix


def result_text(form: Format, skeleton: Skeleton, images: Iterable[ImagePoses]) -> Iterator[str]:
    """The text of any number of images, in parts, as their people come.

    An error in `images` comes out after text that is whole.
    """
    how = _FORMS[form]
    yield how.before(skeleton)
    started = False
    try:
        for poses in images:
            for piece in how.pieces(poses):
                yield (how.between if started else "") + piece
                started = True
    except Exception:
        yield how.after
        raise
    yield how.after


def coco_image_id(name: str) -> int | str:
    """COCO's number in names like `000000000139.jpg`; other images keep their name.

    So do images in a folder below: two folders may have the same numbers.
    """
    stem = name.split(".", 1)[0]
    return int(stem) if stem.isdecimal() else name


def _coco_pieces(poses: ImagePoses) -> list[str]:
    return [json.dumps(person) for person in poses.to_coco(coco_image_id(poses.image.id))]


def _csv_line(cells: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


_FORMS = {
    Format.JSON: _Form(".json", lambda poses: [json.dumps(poses.to_json()) + "\n"]),
    Format.COCO: _Form(".coco.json", _coco_pieces, lambda skeleton: "[", ",\n", "]\n"),
    # OpenPose's own file names end so, and its readers look for that.
    Format.OPENPOSE: _Form(
        "_keypoints.json", lambda poses: [json.dumps(poses.to_openpose()) + "\n"]
    ),
    Format.CSV: _Form(
        ".csv",
        lambda poses: [_csv_line(row) for row in csv_rows(poses.image.id, poses)],
        lambda skeleton: _csv_line(csv_header(skeleton)),
    ),
}
