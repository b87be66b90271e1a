"""Owns asking again: requests are questions without side effects, so a repeated one is safe."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from .errors import ServerBusy, ServerUnavailable
from .transport import Model, Tensors, Transport


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to `attempts` tries; the pause doubles each time and is drawn between half and whole."""

    attempts: int = 3
    first_pause_s: float = 0.1

    def pause_s(self, attempt: int) -> float:
        """After the failed try number `attempt` (from 0)."""
        return self.first_pause_s * 2**attempt * random.uniform(0.5, 1)


NO_RETRIES = Retries(attempts=1)


def with_retries(
    transport: Transport, retries: Retries, sleep: Callable[[float], None] = time.sleep
) -> Transport:
    """`transport`, asked again when nobody answered or the queue was full, and only then."""

    def infer(model: Model, inputs: Tensors) -> Tensors:
        for attempt in range(retries.attempts - 1):
            try:
                return transport(model, inputs)
            except (ServerUnavailable, ServerBusy):
                sleep(retries.pause_s(attempt))
        return transport(model, inputs)

    return infer
