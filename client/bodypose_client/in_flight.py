"""Owns many requests at once: a bounded number in flight, answers in the order of the questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
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


async def map_in_order_asyncio(
    ask: Callable[[Question], Awaitable[Answer]],
    questions: Iterable[Question] | AsyncIterable[Question],
    in_flight: int,
) -> AsyncIterator[Answer]:
    """`map_in_order` for an event loop, with the same bounds and order."""
    places = asyncio.Semaphore(in_flight)
    waiting: deque[asyncio.Task[Answer]] = deque()

    async def ask_in_turn(question: Question) -> Answer:
        async with places:
            return await ask(question)

    try:
        async for question in _one_by_one(questions):
            waiting.append(asyncio.create_task(ask_in_turn(question)))
            if len(waiting) == 2 * in_flight:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting, return_exceptions=True)


async def _one_by_one(
    questions: Iterable[Question] | AsyncIterable[Question],
) -> AsyncIterator[Question]:
    if isinstance(questions, AsyncIterable):
        async for question in questions:
            yield question
        return
    for question in questions:
        yield question
