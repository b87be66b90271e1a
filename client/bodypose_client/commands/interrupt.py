"""Ctrl-C in long work: the first one ends it in order, the second one at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True)
class Stop:
    """Whether the user asked to stop."""

    asked: bool = False

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """`items`, as long as nobody asked to stop."""
        for item in items:
            if self.asked:
                return
            yield item


@contextlib.contextmanager
def until_interrupt() -> Iterator[None]:
    """Inside, Ctrl-C ends the block quietly, also where a shell started us with it ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Stop]:
    """Inside, the first Ctrl-C only sets `Stop.asked`; the next one interrupts as usual."""
    stop = Stop()

    def ask(number: int, frame: Any) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
