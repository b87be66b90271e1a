"""The disk is full at each write of a training: one line, and a run that goes on afterwards."""

from __future__ import annotations

import csv
import errno
import os

import pytest

from bodypose_client.errors import DiskError
from bodypose_tools.files import atomic_files
from bodypose_tools.training import checkpoint
from bodypose_tools.training.train import train
from tests.unit.tools.training.test_train import from_network, spec_for

EVERY = 2  # of the writes, whose kinds repeat in each epoch


class Disk:
    """Counts what is written, and is full from one write on."""

    def __init__(self, monkeypatch) -> None:
        self.writes, self.full_at = 0, 0
        flush, reserve = atomic_files._flush, checkpoint.reserve

        def counted(write):
            def instead(*arguments):
                self.writes += 1
                if self.full_at and self.writes >= self.full_at:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(*arguments)

            return instead

        def refused(path, size):
            with atomic_files.disk_errors(path):
                counted(lambda: reserve(path, size))()

        monkeypatch.setattr(atomic_files, "_flush", counted(flush))
        monkeypatch.setattr(checkpoint, "reserve", refused)


@pytest.fixture
def disk(monkeypatch) -> Disk:
    return Disk(monkeypatch)


def rows(folder) -> list[dict[str, str]]:
    with (folder / "log.csv").open() as file:
        return [
            {name: row[name] for name in ("epoch", "loss", "AP")} for row in csv.DictReader(file)
        ]


def test_a_disk_that_is_full_at_any_write_leaves_a_run_that_goes_on(
    disk, drawn_coco, tiny_keras, tmp_path
):
    often = {"checkpoint_n_epoch": 1, "validation_every_n_epoch": 1}
    spec = spec_for(drawn_coco, 2, **from_network(tiny_keras), **often)

    def run(name: str, full_at: int = 0, resume: bool = False) -> int:
        disk.writes, disk.full_at = 0, full_at
        train(spec, tmp_path / name, resume=resume, say=lambda line: None)
        return disk.writes

    writes = run("undisturbed")
    assert writes > 8
    for number in range(1, writes + 1, EVERY):
        with pytest.raises(DiskError, match="No space left on device") as caught:
            run(str(number), full_at=number)
        assert "\n" not in str(caught.value)
        run(str(number), resume=True)
        assert rows(tmp_path / str(number)) == rows(tmp_path / "undisturbed")
        same = [
            (tmp_path / name / "best.keras").read_bytes() for name in (str(number), "undisturbed")
        ]
        assert same[0] == same[1]
