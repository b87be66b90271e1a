"""What a run writes about itself, read back by others' readers."""

import csv
from pathlib import Path

import cv2
import pytest

from bodypose_tools.training.event_file import EventFile, crc32c
from bodypose_tools.training.log import TrainingLog, draw_curves

FIRST = {
    "epoch": 1,
    "loss": 9.0,
    "learning_rate": 1e-3,
    "seconds": 2.0,
    "images_per_second": 50.0,
}
SCORES = {"AP": 0.25, "AP50": 0.5, "AP75": 0.2, "APm": 0.1, "APl": 0.3}
ROWS = [FIRST, FIRST | {"epoch": 2, "loss": 4.5} | SCORES]


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C's definition


def events(folder: Path) -> list[tuple[int, str, float]]:
    """Read by TensorFlow, which refuses a wrong checksum."""
    from tensorflow.core.util import event_pb2
    from tensorflow.python.lib.io import tf_record

    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for raw in tf_record.tf_record_iterator(str(file)):
            event = event_pb2.Event.FromString(raw)
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorflow_reads_our_events(tmp_path):
    file = EventFile(tmp_path)
    file.scalars(1, {"train/loss": 2.5})
    file.scalars(70_000, {"train/loss": 1.5, "val/AP": 0.25})  # a step of three bytes
    file.close()
    assert events(tmp_path) == [
        (1, "train/loss", 2.5),
        (70_000, "train/loss", 1.5),
        (70_000, "val/AP", 0.25),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_run_has_every_epoch_once(tmp_path):
    log = TrainingLog(tmp_path, [])
    log.write(ROWS[:1])
    log.write(ROWS)
    log.close()
    log = TrainingLog(tmp_path, ROWS[:1])  # the checkpoint was after epoch 1
    log.write(ROWS)
    log.close()
    losses = [found for found in events(tmp_path / "tensorboard") if found[1] == "train/loss"]
    assert losses == [(1, "train/loss", 9.0), (2, "train/loss", 4.5)]
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [(row["epoch"], row["AP"]) for row in rows] == [("1", ""), ("2", "0.25")]


def test_curves_are_a_picture_even_before_the_first_validation(tmp_path):
    for rows in (ROWS[:1], ROWS):
        draw_curves(tmp_path, rows)
        assert cv2.imread(str(tmp_path / "curves.png")).std() > 10
