"""A part file holds what was found, bit by bit, and knows what it was made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow: run pip install -e '.[bulk]'")
import pyarrow.parquet as pq

from bodypose_client.errors import FileError
from bodypose_tools.bulk.part_files import (
    COLUMNS,
    Counts,
    Origin,
    part_path,
    read_counts,
    read_poses,
    write_part,
)
from bodypose_tools.bulk.settings import BulkError
from bodypose_tools.runtimes.people import Found
from pose_runtime.errors import DamagedImage
from pose_runtime.poses import Poses
from pose_runtime.skeleton import BODYPOSE_18

ORIGIN = Origin("11", "net.onnx", "22", "openvino", 0.25)


def poses_of(scores: list[float]) -> Poses:
    rng = np.random.default_rng(len(scores))
    keypoints = rng.random((len(scores), 18, 3), np.float32) * np.float32([640, 480, 1])
    return Poses(keypoints, np.array(scores, np.float32))


FOUND = [
    Found("a.jpg", b"", poses_of([0.9, 0.3, 0.1]), (480, 640)),
    Found("nobody.jpg", b"", poses_of([]), (30, 20)),
    Found("bad.jpg", b"", None, None, DamagedImage("a whole JPEG", "3 bytes")),
]


def test_people_come_back_bit_by_bit(tmp_path):
    path = part_path(tmp_path, 3)
    counts = write_part(path, FOUND, ORIGIN, BODYPOSE_18)

    assert path.name == "part-000003.parquet"
    assert counts == Counts(images=3, people=2, errors=1)
    assert read_counts(path, ORIGIN) == counts
    (a, poses), (_, nobody), (_, bad) = read_poses(path)
    assert a == "a.jpg"
    np.testing.assert_array_equal(poses.keypoints, FOUND[0].poses.keypoints[:2])
    np.testing.assert_array_equal(poses.scores, FOUND[0].poses.scores[:2])
    assert nobody.keypoints.shape == (0, 18, 3)
    assert bad is None


def test_rows_have_the_columns_that_the_page_names(tmp_path):
    write_part(tmp_path / "a.parquet", FOUND, ORIGIN, BODYPOSE_18)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.equals(COLUMNS)
    first, _, bad = table.to_pylist()
    assert (first["width"], first["height"], first["error"]) == (640, 480, None)
    assert (bad["width"], bad["height"], bad["people"]) == (None, None, [])
    assert bad["error"] == "image: expected a whole JPEG, got 3 bytes"
    assert {row["model_sha256"] for row in table.to_pylist()} == {"22"}


def test_names_and_errors_that_are_no_utf8_are_written_with_escapes(tmp_path):
    name = "a\udcff.jpg"
    error = FileError(Path(name), "an image file", FileNotFoundError(2, "gone"))
    write_part(tmp_path / "a.parquet", [Found(name, b"", None, None, error)], ORIGIN, BODYPOSE_18)
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert row["path"] == "a\\xff.jpg"
    assert row["error"] == "a\\xff.jpg: expected an image file, got 'gone'"


def test_the_same_people_make_the_same_file(tmp_path):
    for name in ("a", "b"):
        write_part(tmp_path / name, FOUND, ORIGIN, BODYPOSE_18)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    "change", [{"images_sha256": "12"}, {"model_sha256": "23"}, {"min_score": 0.5}]
)
def test_a_part_of_another_run_is_refused(tmp_path, change):
    write_part(tmp_path / "a.parquet", FOUND, ORIGIN, BODYPOSE_18)
    with pytest.raises(BulkError, match=f"got one with another {next(iter(change))}"):
        read_counts(tmp_path / "a.parquet", replace(ORIGIN, **change))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"", lambda data: b"x" * 99]
)
def test_a_damaged_part_is_refused_with_what_to_do(tmp_path, damage):
    path = tmp_path / "a.parquet"
    write_part(path, FOUND, ORIGIN, BODYPOSE_18)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BulkError, match="remove it"):
        read_counts(path, ORIGIN)


def test_nothing_is_left_when_an_image_fails_otherwise(tmp_path):
    def broken():
        yield FOUND[0]
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError):
        write_part(tmp_path / "a.parquet", broken(), ORIGIN, BODYPOSE_18)
    assert list(tmp_path.iterdir()) == []
