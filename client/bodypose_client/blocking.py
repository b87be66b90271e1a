"""The bridge between blocking and asyncio: one async implementation serves both clients.

A coroutine that never suspends can be run without an event loop. The blocking client gives the
shared code blocking I/O as coroutine functions (`as_coroutine`), and takes results out with `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that never waits.

    Raises:
        RuntimeError: it does wait, so it needs an event loop.
    """
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("a blocking client was given a connection that needs an event loop")


def as_coroutine(
    function: Callable[Arguments, Result],
) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
    """A blocking function as a coroutine function that never waits."""

    async def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return function(*args, **kwargs)

    return call
