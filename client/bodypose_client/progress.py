"""Progress of long work on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")

_LINE_EVERY_S = 10.0


class Tick(Protocol):
    """Tells that `count` more pieces of work are done."""

    def __call__(self, count: int = 1) -> None: ...


def with_progress(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    """`items` unchanged, while stderr shows how many of `total` have passed."""
    with progress(total, name) as tick:
        for item in items:
            yield item
            tick()


@contextlib.contextmanager
def progress(total: int | None, name: str) -> Iterator[Tick]:
    """A function to call after each of `total` pieces of work, or after several of them together.

    Args:
        total: None: nobody knows how many.
        name: of the pieces.
    """
    with _bar(total, name) if sys.stderr.isatty() else _lines(total, name) as tick:
        yield tick


@contextlib.contextmanager
def _bar(total: int | None, name: str) -> Iterator[Tick]:
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

    class PerSecond(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    columns = [TextColumn(name), BarColumn(), MofNCompleteColumn(), PerSecond()]
    columns.append(TimeRemainingColumn() if total else TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(name, total=total)

        def tick(count: int = 1) -> None:
            shown.advance(task, count)

        yield tick


@contextlib.contextmanager
def _lines(total: int | None, name: str) -> Iterator[Tick]:
    started = last = time.monotonic()
    done = 0

    def tick(count: int = 1) -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S and done != total:
            last = now
            sys.stderr.write(progress_line(name, done, total, done / (now - started)) + "\n")
            sys.stderr.flush()

    yield tick


def progress_line(name: str, done: int, total: int | None, per_second: float) -> str:
    """`frames: 120 of 300, 24.0/s, 8 s left`."""
    if total is None or done > total:
        return f"{name}: {done}, {per_second:.1f}/s"
    left_s = (total - done) / per_second
    return f"{name}: {done} of {total}, {per_second:.1f}/s, {left_s:.0f} s left"
