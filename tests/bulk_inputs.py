"""Folders, lists, tars and Parquet files of grey images, and what a bulk run found in them."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bodypose_tools.bulk.part_files import read_poses
from tests.greys import grey_png

NO_IMAGE = b"this is no image"


def greys(count: int) -> dict[str, bytes]:
    """Pictures `00005.png`, ..., each of the grey that its name says; from 5 to 44, and again."""
    return {f"{number:05d}.png": grey_png(5 + number % 40) for number in range(count)}


def as_folder(folder: Path, images: Mapping[str, bytes]) -> Path:
    for name, data in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def as_links(folder: Path, count: int) -> dict[str, int]:
    """`count` links to 40 pictures, 1,000 in a folder; path -> the grey of each."""
    pictures = as_folder(folder.with_name(f"{folder.name}-pictures"), greys(40))
    paths = {}
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number % 1000:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(pictures / f"{number % 40:05d}.png", path)
        paths[str(path)] = 5 + number % 40
    return paths


def as_tar(path: Path, images: Mapping[str, bytes]) -> Path:
    """A WebDataset shard: each image has a label beside it."""
    with tarfile.open(path, "w") as tar:
        for name, data in images.items():
            for member, content in ((name, data), (f"{name.rpartition('.')[0]}.cls", b"0")):
                header = tarfile.TarInfo(member)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return path


def as_parquet(path: Path, columns: Mapping[str, object], rows_in_group: int = 5) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows_in_group)
    return path


def grey_of_row(folder: Path) -> dict[str, int | None]:
    """Path of every row below `folder` -> the grey that its person shows; None: an error.

    A path that stands in two rows is an error of the test's subject.
    """
    seen: dict[str, int | None] = {}
    for part in sorted(folder.glob("part-*.parquet")):
        for path, poses in read_poses(part):
            assert path not in seen, f"{path} twice"
            seen[path] = None if poses is None else round(6 * (float(poses.keypoints[0, 0, 0]) - 1))
    return seen
