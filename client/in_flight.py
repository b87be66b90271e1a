"""Owns many requests at once: a bounded number in flight, answers in the order of the questions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def map_in_order(
    ask: Callable[[Question], Answer], questions: Iterable[Question], in_flight: int
) -> Iterator[Answer]:
    """`map(ask, questions)` with `in_flight` calls at a time.

    At most 2 * in_flight questions and answers are held, so that one slow answer does not stop the
    others and an endless stream of questions fits in memory. The first error that `ask` raises
    comes out in its turn and ends the stream.
    """
    waiting: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(in_flight, thread_name_prefix="pose-client") as threads:
        try:
            for question in questions:
                waiting.append(threads.submit(ask, question))
                if len(waiting) == 2 * in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
