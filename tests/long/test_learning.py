"""A network learns two drawn images by heart: a minute on two cores."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.training.train import train
from tests.unit.tools.training.test_train import spec_for


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_images_are_learnt_by_heart(drawn_coco, tmp_path):
    """Labels, decoding layers and grouping are each other's inverse, through a real network."""
    best = train(spec_for(drawn_coco, 180), tmp_path, resume=False, say=lambda line: None)
    found = losses(tmp_path)
    assert found[-1] < found[0] / 50
    assert best.settings["val"]["AP"] > 0.95

    predict, spec, _ = open_predictor(best.path)
    metrics = evaluate_model(predict, spec, drawn_coco / "people.json", drawn_coco)
    assert metrics.ap == pytest.approx(best.settings["val"]["AP"], abs=0.01)  # float16 storage


def losses(folder: Path) -> list[float]:
    lines = (folder / "log.csv").read_text().splitlines()
    return [float(row["loss"]) for row in csv.DictReader(lines)]
