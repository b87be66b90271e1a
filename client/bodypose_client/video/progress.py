"""Progress of a video: a bar with fps and ETA on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

_LINE_EVERY_S = 10.0

Tick = Callable[[], None]  # one more frame is done


@contextlib.contextmanager
def frame_progress(total: int | None) -> Iterator[Tick]:
    """A function to call after each frame; shows progress on stderr while the block lasts."""
    with _bar(total) if sys.stderr.isatty() else _lines(total) as tick:
        yield tick


@contextlib.contextmanager
def _bar(total: int | None) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class FramesPerSecond(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f} fps" if task.speed else "")

    columns = [TextColumn("frames"), BarColumn(), MofNCompleteColumn(), FramesPerSecond()]
    columns.append(TimeRemainingColumn() if total else TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("frames", total=total)
        yield lambda: progress.advance(task)


@contextlib.contextmanager
def _lines(total: int | None) -> Iterator[Tick]:
    started = last = time.monotonic()
    done = 0

    def tick() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S:
            last = now
            sys.stderr.write(progress_line(done, total, done / (now - started)) + "\n")
            sys.stderr.flush()

    yield tick


def progress_line(done: int, total: int | None, fps: float) -> str:
    """`frames: 120 of 300, 24.0 fps, 8 s left`."""
    if total is None or done > total:
        return f"frames: {done}, {fps:.1f} fps"
    return f"frames: {done} of {total}, {fps:.1f} fps, {(total - done) / fps:.0f} s left"
