"""What a pruning says of itself: the table, the record's numbers, the picture."""

import contextlib

import pytest

from bodypose_tools.pruning import report as module
from bodypose_tools.pruning.report import LayerWidth, PruneReport, draw_widths

REPORT = PruneReport(
    threshold=0.123456,
    layers=(LayerWidth("first", 64, 16), LayerWidth("a_long_name", 128, 128)),
    params=(2_500_000, 1_000_000),
    macs=(4_000_000_000, 1_500_000_000),
    file_bytes=(12_500_000, None),
)


def test_the_table_has_a_line_for_each_layer_and_the_sums():
    assert list(REPORT.lines()) == [
        "layer        before  after  share",
        "first            64     16    25%",
        "a_long_name     128    128   100%",
        "",
        "parameters  2.50 M -> 1.00 M  (40.0% remain)",
        "MACs        4.00 G -> 1.50 G  (37.5% remain)",
        "threshold   0.1235",
    ]


def test_short_names_leave_room_for_the_heading():
    short = PruneReport(1.0, (LayerWidth("a", 4, 2),), (1, 1), (1, 1), (1, None))
    assert list(short.lines())[:2] == ["layer  before  after  share", "a           4      2    50%"]


def test_a_written_file_has_its_size(tmp_path):
    (tmp_path / "pruned.keras").write_bytes(bytes(5_000_000))
    lines = list(REPORT.with_size_of(tmp_path / "pruned.keras").lines())
    assert lines[-2] == "file        12.50 MB -> 5.00 MB  (40.0% remain)"


def test_the_record_has_both_numbers_of_everything():
    assert REPORT.to_json() == {
        "parameters": {"before": 2_500_000, "after": 1_000_000},
        "macs": {"before": 4_000_000_000, "after": 1_500_000_000},
        "layers": {"first": [64, 16], "a_long_name": [128, 128]},
    }


def test_the_picture_has_a_bar_for_each_layer_and_the_first_is_on_top(monkeypatch, tmp_path):
    figure_of = pytest.importorskip("matplotlib.figure").Figure
    drawn = []

    @contextlib.contextmanager
    def kept(out, size_inches, dpi):
        drawn.append((out, figure_of(figsize=size_inches)))
        yield drawn[0][1]

    monkeypatch.setattr(module, "png_figure", kept)
    draw_widths(REPORT, "a network", tmp_path / "widths.png")

    ((out, figure),) = drawn
    (axes,) = figure.axes
    assert out == tmp_path / "widths.png"
    assert figure.get_size_inches().tolist() == pytest.approx([8.5, 1.6 + 0.17 * 2])
    before, after = axes.containers
    assert [bar.get_width() for bar in before] == [64, 128]
    assert [bar.get_width() for bar in after] == [16, 128]
    assert {bar.get_height() for bar in (*before, *after)} == {0.8}
    assert [text.get_text() for text in axes.texts] == ["16/64", "128"]
    assert [text.get_position() for text in axes.texts] == [(65.024, 0), (129.024, 1)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "a_long_name"]
    assert axes.get_ylim() == pytest.approx((1.6, -0.6))
    assert axes.get_xlim() == pytest.approx((0, 140.8))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["before", "after"]
    assert axes.get_title(loc="left") == (
        "a network\nparameters 2.50 M to 1.00 M (40% remain), MACs 4.00 G to 1.50 G (38% remain)"
    )
    visible = {side for side, spine in axes.spines.items() if spine.get_visible()}
    assert visible == {"bottom"}
    assert axes.xaxis.get_gridlines()[0].get_visible()
    assert axes.get_axisbelow() is True
