"""Progress of long work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_LINE_EVERY_S = 10.0


def with_progress(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    """`items` unchanged; how many of `total` have passed is shown on stderr."""
    return _with_bar(items, total, name) if sys.stderr.isatty() else _with_lines(items, total, name)


def _with_bar(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, name, total, console=Console(stderr=True), transient=True)


def _with_lines(items: Iterable[Item], total: int, name: str) -> Iterator[Item]:
    last = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last >= _LINE_EVERY_S and count < total:
            last = time.monotonic()
            sys.stderr.write(f"{name}: {count} of {total}\n")
            sys.stderr.flush()
