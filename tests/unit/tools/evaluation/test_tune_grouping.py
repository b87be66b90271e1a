"""Thresholds are chosen by AP on training images, kept in the record, and used from there."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from bodypose_tools.data.coco import read_coco
from bodypose_tools.evaluation.field_frames import last_stage
from bodypose_tools.evaluation.modes import field_decoder
from bodypose_tools.evaluation.tune_grouping import (
    GroupingTuningError,
    check_can_keep,
    tune_grouping,
)
from bodypose_tools.networks.keras_files import keep_grouping, load_network, save_network
from pose_runtime.letterbox import Letterbox
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import GroupingSettings, PipelineSpec
from tests.drawn import HEIGHT, WIDTH
from tests.unit.tools.evaluation.test_modes import HW, drawn_fields, seen

SPEC = PipelineSpec(network_hw=HW)


def test_thresholds_that_lose_people_are_replaced(drawn_coco):
    records = read_coco(drawn_coco / "people.json", drawn_coco, BODYPOSE_18)
    decode, letterbox = field_decoder(SPEC), Letterbox.fit((HEIGHT, WIDTH), HW)
    answers = [
        decode(last_stage(drawn_fields(seen(record.joints, letterbox), HW)), HW)
        for record in records
    ]

    def predict(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = [answers[min(row, 1)] for row in range(len(pixels))]
        return np.stack([peaks for peaks, _ in rows]), np.stack([limbs for _, limbs in rows])

    too_strict = replace(SPEC, grouping=GroupingSettings(min_limb_score=0.999))
    said: list[str] = []
    tuning = tune_grouping(
        predict, too_strict, drawn_coco / "people.json", drawn_coco, 100, 42, said.append
    )
    assert tuning.ap_before < 0.4
    assert tuning.ap > 0.99
    assert tuning.grouping == GroupingSettings()  # of those that are as good the nearest to it
    assert tuning.images == 2
    assert tuning.person_scores["as served"] == tuning.ap
    assert {entry["threshold"] for entry in tuning.tried} == {
        "min_peak_score",
        "min_limb_score",
        "min_joints",
    }
    assert said[0].startswith("2 images: AP 0.")
    assert json.loads(json.dumps(tuning.to_json()))["schema"] == "bodypose-grouping/1"


def test_kept_thresholds_travel_with_the_network(tmp_path):
    path = tmp_path / "best.keras"
    pixels = keras.Input((None, None, 3), dtype="uint8")
    network = keras.Model(pixels, keras.layers.Rescaling(1 / 256)(pixels))
    save_network(network, path, "train", SPEC, settings={"val": 1})
    assert load_network(path)[1].grouping == GroupingSettings()
    chosen = GroupingSettings(0.2, 0.03, 4)
    keep_grouping(path, chosen)
    _, spec, artifact = load_network(path)
    assert spec.grouping == chosen
    assert artifact.settings["val"] == 1
    save_network(network, tmp_path / "pruned.keras", "prune", spec, settings={})
    assert load_network(tmp_path / "pruned.keras")[1].grouping == chosen


def test_an_onnx_file_cannot_keep_thresholds(tmp_path):
    with pytest.raises(
        GroupingTuningError, match=r"expected a \.keras file with its record for --keep"
    ):
        check_can_keep(tmp_path / "model.onnx")
