"""What a run writes about itself, read back."""

import csv

import cv2

from bodypose_tools.training.log import draw_curves, write_log

FIRST = {
    "epoch": 1,
    "loss": 9.0,
    "learning_rate": 1e-3,
    "seconds": 2.0,
    "images_per_second": 50.0,
}
SCORES = {"AP": 0.25, "AP50": 0.5, "AP75": 0.2, "APm": 0.1, "APl": 0.3}
ROWS = [FIRST, FIRST | {"epoch": 2, "loss": 4.5} | SCORES]


def test_the_log_has_every_epoch_once_also_after_a_resumed_run(tmp_path):
    write_log(tmp_path, ROWS)
    write_log(tmp_path, ROWS[:1])  # the checkpoint was after epoch 1
    write_log(tmp_path, ROWS)
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [(row["epoch"], row["AP"]) for row in rows] == [("1", ""), ("2", "0.25")]


def test_curves_are_a_picture_even_before_the_first_validation(tmp_path):
    for rows in (ROWS[:1], ROWS):
        draw_curves(tmp_path, rows)
        assert cv2.imread(str(tmp_path / "curves.png")).std() > 10
