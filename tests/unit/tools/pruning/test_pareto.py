"""The trade-off of a few made-up points, which can be judged by eye."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bodypose_tools.files.json_records import write_record
from bodypose_tools.pruning.pareto import (
    ParetoError,
    Point,
    TradeOff,
    add_to_results,
    read_trade_off,
)
from bodypose_tools.pruning.pareto_picture import draw_trade_off
from bodypose_tools.results.record import Measurement

ROOT = Path(__file__).parents[4]


def point(name: str, macs: int, ap: float, ratio: float | None = None) -> Point:
    speed = (
        None if ratio is None else {"runtimes": {"openvino": {"times_as_fast": {"median": ratio}}}}
    )
    return Point(name, f"{name}/best.keras", "0" * 64, macs // 2, macs, macs * 2, ap, speed)


TRADE_OFF = TradeOff(
    "bodypose-s",
    "val.json",
    {"steps": 3},
    0.01,
    (
        point("unpruned", 1000, 0.30),
        point("step_1", 800, 0.295, 1.25),
        point("step_2", 600, 0.297, 1.0),
        point("step_3", 400, 0.289, 2.0),
    ),
)


def test_the_best_is_the_smallest_within_the_limit():
    assert TRADE_OFF.best.name == "step_2"
    assert [TRADE_OFF.allows(point) for point in TRADE_OFF.points] == [True, True, True, False]
    assert replace(TRADE_OFF, max_ap_drop=0.011).best.name == "step_3"
    assert replace(TRADE_OFF, max_ap_drop=0.0).best.name == "unpruned"


def test_the_front_has_no_point_that_another_one_beats_twice():
    assert [point.name for point in TRADE_OFF.efficient] == ["unpruned", "step_2", "step_3"]


def test_the_table_says_what_became_of_each_step():
    _, _, unpruned, first, second, third = TRADE_OFF.table()
    assert unpruned.startswith("| unpruned |")
    assert "| 80.0% |" in first
    assert "| 1.25 | 1.00 | another is as good for less |" in first
    assert "**best**" in second
    assert "| 2.00 | 0.80 | drop above 0.01 |" in third


def test_json_there_and_back(tmp_path):
    write_record(tmp_path / "pareto.json", TRADE_OFF.to_json())
    assert read_trade_off(tmp_path / "pareto.json") == TRADE_OFF


def test_results_hold_a_run_per_network(tmp_path):
    out = tmp_path / "prune.json"
    add_to_results(TRADE_OFF, out, Measurement())
    add_to_results(replace(TRADE_OFF, network="bodypose-vgg19"), out, Measurement())
    add_to_results(replace(TRADE_OFF, max_ap_drop=0.0), out, Measurement())
    networks = json.loads(out.read_text())["networks"]
    assert {name: run["best"] for name, run in networks.items()} == {
        "bodypose-s": "unpruned",
        "bodypose-vgg19": "step_2",
    }


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "something/1"}'])
def test_another_file_is_not_overwritten(tmp_path, content):
    out = tmp_path / "other.json"
    out.write_text(content)
    with pytest.raises(ParetoError, match="expected JSON of schema"):
        add_to_results(TRADE_OFF, out, Measurement())
    assert out.read_text() == content


def test_the_picture_has_a_panel_per_cost(tmp_path):
    cv2 = pytest.importorskip("cv2")
    draw_trade_off(TRADE_OFF, tmp_path / "three.png")
    draw_trade_off(TradeOff("n", "v", {}, 0.01, (point("unpruned", 9, 0.1),)), tmp_path / "two.png")
    three, two = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("three", "two"))
    assert three.shape[1] > two.shape[1] > 600
