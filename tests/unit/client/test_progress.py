import sys

import pytest

from bodypose_client.progress import progress, progress_line, with_progress


def test_a_line_says_how_far_how_fast_and_how_long():
    assert progress_line("frames", 120, 300, 24.0) == "frames: 120 of 300, 24.0/s, 8 s left"
    assert progress_line("frames", 120, None, 24.0) == "frames: 120, 24.0/s"
    assert progress_line("frames", 301, 300, 24.0) == "frames: 301, 24.0/s"  # more than announced


@pytest.fixture
def slow(monkeypatch):
    """Three seconds pass between any two looks at the clock."""
    now = iter(range(0, 1000, 3))
    monkeypatch.setattr("bodypose_client.progress.time.monotonic", lambda: next(now))


@pytest.mark.usefixtures("slow")
def test_plain_lines_come_now_and_then(capsys):
    with progress(100, "frames") as tick:
        for _ in range(8):
            tick()

    assert capsys.readouterr().err == (
        "frames: 4 of 100, 0.3/s, 288 s left\nframes: 8 of 100, 0.3/s, 276 s left\n"
    )


@pytest.mark.usefixtures("slow")
def test_several_pieces_at_once_count_as_many(capsys):
    with progress(100, "images") as tick:
        for _ in range(4):
            tick(20)

    assert capsys.readouterr().err == "images: 80 of 100, 6.7/s, 3 s left\n"


@pytest.mark.usefixtures("slow")
def test_items_pass_unchanged_and_the_last_one_needs_no_line(capsys):
    assert list(with_progress(iter("abcd"), 4, "images")) == list("abcd")

    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    with progress(10, "frames") as tick:
        for _ in range(10):
            tick()

    assert "10/10" in capsys.readouterr().err
