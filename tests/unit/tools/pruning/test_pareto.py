"""The trade-off of a few made-up points, which can be judged by eye."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bodypose_tools.files.json_records import write_record
from bodypose_tools.pruning import pareto_picture
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


def test_a_row_of_the_table_has_every_number_in_its_unit():
    whole = Point("unpruned", "a", "0", 16_800_000, 4_000_000_000, 67_250_000, 0.3)
    half = Point("step_1", "b", "1", 8_125_000, 3_000_000_000, 32_550_000, 0.31254)
    _, line, first, second = TradeOff("n", "v", {}, 0.0, (whole, half)).table()

    assert line == "|---" * 8 + "|"
    assert first == (
        "| unpruned | 4.00 G | 100.0% | 16.80 M | 67.2 MB | 0.3000 | +0.0000"
        " | another is as good for less |"
    )
    assert second == "| step_1 | 3.00 G | 75.0% | 8.12 M | 32.5 MB | 0.3125 | -0.0125 | **best** |"
    assert list(TRADE_OFF.table())[1] == "|---" * 10 + "|"
    assert "| 0.3000 | +0.0000 |  |  |  |" in list(TRADE_OFF.table())[2]


def test_rounding_does_not_decide_whether_a_limit_is_kept():
    whole, other = point("unpruned", 9, 0.3), point("step_1", 5, 0.29)
    trade_off = TradeOff("n", "v", {}, 0.01, (whole, other))
    assert whole.ap - other.ap > 0.01
    assert trade_off.drop(other) == 0.01
    assert trade_off.allows(other)
    assert not trade_off.allows(replace(other, ap=0.289998))
    assert trade_off.drop(replace(other, ap=0.289998)) == 0.010002


def test_of_equal_costs_the_better_is_best_and_of_equals_both_are_efficient():
    points = (point("unpruned", 9, 0.3), *(point(f"step_{n}", 5, 0.3) for n in (1, 2)))
    trade_off = TradeOff("n", "v", {}, 0.01, (*points, point("step_3", 5, 0.299)))
    assert [each.name for each in trade_off.efficient] == ["step_1", "step_2"]
    better = replace(trade_off, points=(*points, point("step_3", 5, 0.301)))
    assert better.best.name == "step_3"


def test_the_record_says_of_each_point_what_became_of_it():
    raw = TRADE_OFF.to_json()
    assert (raw["best"], raw["finished"]) == ("step_2", False)
    told = [(each["AP_drop"], each["macs_share"], each["on_the_front"]) for each in raw["points"]]
    assert told == [(0.0, 1.0, True), (0.005, 0.8, False), (0.003, 0.6, True), (0.011, 0.4, True)]
    assert replace(TRADE_OFF, points=()).to_json()["best"] is None


def test_a_point_of_a_known_name_takes_its_place():
    again = TRADE_OFF.with_point(point("step_1", 700, 0.2)).with_point(point("step_4", 1, 0.1))
    assert [each.name for each in again.points] == [
        *("unpruned", "step_1", "step_2", "step_3"),
        "step_4",
    ]
    assert again.points[1].macs == 700


def test_the_picture_shows_each_points_cost_and_ap(monkeypatch, tmp_path):
    figure_of = pytest.importorskip("matplotlib.figure").Figure
    figures = []

    @contextlib.contextmanager
    def kept(out, size_inches, dpi):
        figures.append(figure_of(figsize=size_inches))
        yield figures[0]

    monkeypatch.setattr(pareto_picture, "png_figure", kept)
    points = (
        Point("unpruned", "a", "0", 16_000_000, 4_000_000_000, 1, 0.3),
        replace(point("step_1", 3_000_000_000, 0.297, 1.25), parameters=8_000_000),
        Point("step_2", "b", "1", 4_000_000, 2_000_000_000, 1, 0.2),
    )
    draw_trade_off(TradeOff("net", "val.json", {}, 0.01, points), tmp_path / "a.png")

    (figure,) = figures
    assert figure.get_size_inches().tolist() == pytest.approx([1 + 3.6 * 3, 3.8])
    macs, parameters, times = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == [
        *("GMAC", "parameters, M"),
        "time in openvino, share of unpruned",
    ]
    assert macs.get_ylabel() == "AP on val.json"
    assert figure.get_suptitle() == "net: prune and retrain"
    for axes, costs in ((macs, [4, 3, 2]), (parameters, [16, 8, 4]), (times, [1, 0.8])):
        way, best, limit = axes.lines
        assert way.get_xdata() == pytest.approx(costs)
        assert list(way.get_ydata()) == [0.3, 0.297, 0.2][: len(costs)]
        assert (list(best.get_xdata()), list(best.get_ydata())) == ([costs[1]], [0.297])
        assert list(limit.get_ydata()) == pytest.approx([0.29, 0.29])
        names = [text.get_text() for text in axes.texts]
        assert names == ["unpruned", "step_1", "step_2"][: len(costs)]
        assert [text.xy[0] for text in axes.texts] == pytest.approx(costs)
        assert axes.get_xlim()[0] == 0
        assert axes.xaxis.get_gridlines()[0].get_visible()
        visible = {side for side, spine in axes.spines.items() if spine.get_visible()}
        assert visible == {"bottom", "left"}
