"""Many requests at once: a bounded number in flight, answers in the order of the questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
)
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from pose_runtime.errors import ContractError

Question = TypeVar("Question")
Answer = TypeVar("Answer")


def map_in_order(
    ask: Callable[[Question], Answer], questions: Iterable[Question], in_flight: int
) -> Generator[Answer, None, None]:
    """`map(ask, questions)` with `in_flight` calls at a time.

    At most 2 * in_flight questions and answers are held, so that one slow answer does not stop the
    others and an endless stream of questions fits in memory. The first error that `ask` raises
    comes out in its turn and ends the stream.

    Raises:
        ContractError: `in_flight` is below 1.
    """
    return _map_in_order(ask, questions, _at_least_1(in_flight))


def _map_in_order(
    ask: Callable[[Question], Answer], questions: Iterable[Question], in_flight: int
) -> Generator[Answer, None, None]:
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


def map_in_order_asyncio(
    ask: Callable[[Question], Awaitable[Answer]],
    questions: Iterable[Question] | AsyncIterable[Question],
    in_flight: int,
) -> AsyncIterator[Answer]:
    """`map_in_order` for an event loop, with the same bounds, order and errors."""
    return _map_in_order_asyncio(ask, questions, _at_least_1(in_flight))


async def _map_in_order_asyncio(
    ask: Callable[[Question], Awaitable[Answer]],
    questions: Iterable[Question] | AsyncIterable[Question],
    in_flight: int,
) -> AsyncIterator[Answer]:
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


def _at_least_1(in_flight: int) -> int:
    if in_flight < 1:
        raise ContractError("in_flight", "at least 1 request at a time", str(in_flight))
    return in_flight


async def _one_by_one(
    questions: Iterable[Question] | AsyncIterable[Question],
) -> AsyncIterator[Question]:
    if isinstance(questions, AsyncIterable):
        async for question in questions:
            yield question
        return
    for question in questions:
        yield question
