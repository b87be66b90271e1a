"""Parquet files of poses: one row an image, one file a part, written whole or not at all.

A row: path, width, height, people (score, bbox, keypoints, num_keypoints), error, model_sha256,
schema. `error` is null where the image was processed; width and height are null where it does not
decode. Coordinates and order are those of `bodypose/1`: pixels of the image, best person first. The
file's metadata, under `bodypose`, is a JSON object: what the part was made of (`Origin`), its
counts, and the skeleton, whose joints are the keypoints' order.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.runtimes.people import Found
from pose_runtime.poses import Poses
from pose_runtime.skeleton import Skeleton

from .settings import BulkError

SCHEMA: Final = "bodypose-bulk/1"
_KEY: Final = b"bodypose"
_COMPRESSION: Final = "zstd"
_PERSON = pa.struct(
    [
        ("score", pa.float32()),
        ("bbox", pa.list_(pa.float32(), 4)),  # x, y, width, height of the joints found
        ("keypoints", pa.list_(pa.list_(pa.float32(), 3))),  # x, y, score of every joint
        ("num_keypoints", pa.int32()),
    ]
)
COLUMNS: Final = pa.schema(
    [
        ("path", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("people", pa.list_(_PERSON)),
        ("error", pa.string()),
        ("model_sha256", pa.string()),
        ("schema", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a part file was made of: a rerun with another origin is refused.

    images_sha256: of the part (`sources.Part.sha256`).
    """

    images_sha256: str
    model: str
    model_sha256: str
    runtime: str
    min_score: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What is in a part file, or in several together."""

    images: int = 0
    people: int = 0
    errors: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.images + other.images, self.people + other.people, self.errors + other.errors
        )


def shown(path: str) -> str:
    """A path as UTF-8 can have it; bytes of others are written as escapes."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def load_writer() -> None:
    """Load what the first table loads, before any part's time counts: pandas, compression."""
    pq.write_table(pa.Table.from_pylist([], COLUMNS), io.BytesIO(), compression=_COMPRESSION)


def part_path(folder: Path, number: int) -> Path:
    """Where a part is written."""
    return folder / f"part-{number:06d}.parquet"


def write_part(path: Path, found: Iterable[Found], origin: Origin, skeleton: Skeleton) -> Counts:
    """Write a part's rows; `found` is read to its end before anything is written.

    Raises:
        DiskError: there is no room, or no permission.
    """
    rows = [_row(each, origin) for each in found]
    counts = Counts(
        len(rows),
        sum(len(row["people"]) for row in rows),
        sum(row["error"] is not None for row in rows),
    )
    about = {"origin": asdict(origin), **asdict(counts), "skeleton": skeleton.to_json()}
    table = pa.Table.from_pylist(rows, COLUMNS)
    table = table.replace_schema_metadata({_KEY: json.dumps(about)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression=_COMPRESSION)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
    return counts


def read_counts(path: Path, origin: Origin) -> Counts:
    """Counts of a finished part.

    Raises:
        BulkError: the file is damaged, or was made of something else.
    """
    about = _about(path)
    if about["origin"] != asdict(origin):
        differs = next(
            key for key, value in asdict(origin).items() if about["origin"].get(key) != value
        )
        raise BulkError(
            f"{path}: expected a part of this run, got one with another {differs}; choose another"
            " output folder, or remove this one"
        )
    return Counts(about["images"], about["people"], about["errors"])


def read_poses(path: Path) -> Iterator[tuple[str, Poses | None]]:
    """Path and people of each row of a part file; None for an image with an error."""
    joints = len(_about(path)["skeleton"]["joints"])
    for row in pq.read_table(path, columns=["path", "people", "error"]).to_pylist():
        if row["error"] is not None:
            yield row["path"], None
            continue
        keypoints = np.array([person["keypoints"] for person in row["people"]], np.float32)
        scores = np.array([person["score"] for person in row["people"]], np.float32)
        yield row["path"], Poses(keypoints.reshape(len(scores), joints, 3), scores)


def _about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads((pq.read_metadata(path).metadata or {})[_KEY])
        sound = isinstance(about["origin"], Mapping) and all(
            isinstance(about[key], int) for key in ("images", "people", "errors")
        )
    except (OSError, ValueError, KeyError, TypeError):  # pyarrow's errors are ValueErrors
        sound = False
    if not sound:
        raise BulkError(f"{path}: expected a part of `tools bulk`, got none; remove it")
    return dict(about)


def _row(found: Found, origin: Origin) -> dict[str, Any]:
    poses = None if found.poses is None else found.poses.above(origin.min_score)
    height, width = found.image_hw or (None, None)
    return {
        "path": shown(found.name),
        "width": width,
        "height": height,
        "people": [] if poses is None else list(_people(poses)),
        "error": None if found.error is None else shown(str(found.error)),
        "model_sha256": origin.model_sha256,
        "schema": SCHEMA,
    }


def _people(poses: Poses) -> Iterator[dict[str, Any]]:
    people = zip(poses.scores, poses.boxes, poses.keypoints, poses.num_keypoints, strict=True)
    for score, box, keypoints, count in people:
        yield {
            "score": float(score),
            "bbox": box.tolist(),
            "keypoints": keypoints.tolist(),
            "num_keypoints": int(count),
        }
