"""Mutants of every kind of file through its readers: answers or one line each."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import h5py
import pyarrow.parquet as pq
import pytest
import yaml

from pose_runtime.errors import PoseError
from tests import file_mutants as mutate
from tests.command_walk import LONGEST
from tests.fuzz.file_kinds import Ask, placed

MUTANTS = int(os.environ.get("FILE_MUTANTS", "200"))  # through each reader
READ = (
    *("skeleton", "grouping", "tuning", "inputs", "outputs", "report", "layers", "list", "spec"),
    *("performance", "pixels", "cache", "weights", "onnx", "keras", "record", "engine-record"),
    *("torch", "video"),
)


def read_by(reader: Ask, path: Path) -> None:
    """A reader answers, or refuses in one line; all else is a traceback, and raised."""
    try:
        reader(path)
    except PoseError as error:
        line = str(error)
        assert len(line.splitlines()) == 1, line
        assert len(line) <= LONGEST, line


@pytest.mark.parametrize("name", READ)
def test_every_mutant_is_read_or_refused_in_one_line(kinds, tmp_path, name):
    kind = kinds[name]
    for number, content in mutate.mutants_of(name, kind.right, kind.mutant, MUTANTS):
        for reader in kind.readers:
            path = placed(kind, tmp_path / "in", content)
            try:
                read_by(reader, path)
            except Exception as error:
                raise AssertionError(f"{name}, mutant {number}: {error!r}") from error


def test_every_kind_with_a_reader_is_read(kinds):
    assert {name for name, kind in kinds.items() if kind.readers} == {*READ}


def test_a_planted_traceback_is_found(kinds, tmp_path):
    def planted(path):
        raise KeyError("planted")

    path = placed(kinds["tuning"], tmp_path / "in", kinds["tuning"].right)
    with pytest.raises(KeyError):
        read_by(planted, path)


def in_zip(content: bytes) -> object:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.namelist()


def in_tar(content: bytes) -> object:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return archive.getnames()


def in_hdf5(content: bytes) -> object:
    with h5py.File(io.BytesIO(content)) as stored:
        return list(stored)


def in_parquet(content: bytes) -> object:
    return pq.ParquetFile(io.BytesIO(content)).schema


def in_onnx(content: bytes) -> object:
    import onnx

    return onnx.load_from_string(content)


PARSERS = {
    "skeleton": json.loads, "spec": yaml.safe_load, "pixels": in_hdf5, "weights": in_zip,
    "keras": in_zip, "wheel": in_zip, "package": in_tar, "shard": in_tar, "table": in_parquet,
    "onnx": in_onnx,
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
def test_half_of_the_mutants_are_past_the_syntax(kinds, name):
    kind, parsed = kinds[name], 0
    for _, content in mutate.mutants_of(name, kind.right, kind.mutant, 200):
        with contextlib.suppress(Exception):
            PARSERS[name](content)
            parsed += 1
    assert parsed >= 100
