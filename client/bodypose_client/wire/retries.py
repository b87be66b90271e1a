"""Retries: a request has no side effects, so that a repeated one is safe."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bodypose_client.errors import ServerBusy, ServerUnavailable

from .connection import Request, Tensors, Transport
from .deadline import Deadline

_log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to `attempts` tries; the pause doubles each time and is drawn between half and whole."""

    attempts: int = 3
    first_pause_s: float = 0.1
    longest_pause_s: float = 1.0

    def pause_s(self, attempt: int) -> float:
        """Seconds to wait after the failed try number `attempt` (from 0)."""
        longest_s = max(self.first_pause_s, self.longest_pause_s)
        # The bound of 30 keeps 2**attempt a number that can be multiplied.
        whole = min(self.first_pause_s * 2 ** min(attempt, 30), longest_s)
        return whole * random.uniform(0.5, 1)

    def allow(self, attempt: int, pause_s: float, deadline: Deadline) -> bool:
        """Whether there is another try, and time for it."""
        return attempt + 1 < self.attempts and deadline.has(pause_s)


NO_RETRIES = Retries(attempts=1)
# As long as the deadline allows: work on many images outlives a server that is started again.
PATIENT = Retries(attempts=10**6)


def with_retries(transport: Transport, retries: Retries, sleep: Sleep) -> Transport:
    """`transport`, asked again when nobody answered or the queue was full, and only then.

    The request's deadline is for all tries and pauses together.
    """

    async def infer(request: Request) -> Tensors:
        attempt = 0
        while True:
            try:
                return await transport(request)
            except (ServerUnavailable, ServerBusy) as error:
                pause_s = retries.pause_s(attempt)
                if not retries.allow(attempt, pause_s, request.deadline):
                    raise
                _log.info("%s; try %d follows in %.2f s", error, attempt + 2, pause_s)
            await sleep(pause_s)
            attempt += 1

    return infer
