"""The time that one call may take, all its steps and tries together."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from pose_runtime.errors import ContractError


@dataclass(frozen=True, slots=True)
class Deadline:
    """`timeout_s` seconds from the call's start, until `end` on the monotonic clock."""

    timeout_s: float
    end: float

    @classmethod
    def after(cls, timeout_s: float) -> Deadline:
        """The deadline of a call that begins now.

        Raises:
            ContractError: `timeout_s` is not above 0.
        """
        if not timeout_s > 0:
            raise ContractError("timeout_s", "more than 0 seconds", f"{timeout_s:g}")
        return cls(timeout_s, time.monotonic() + timeout_s)

    def left_s(self) -> float:
        """Seconds left, more than 0.

        Raises:
            TimeoutError: none are.
        """
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def left_us(self) -> int:
        """Microseconds left, for KServe's parameter `timeout`: later the server need not compute.

        Raises:
            TimeoutError: none are.
        """
        return math.ceil(self.left_s() * 1e6)

    def has(self, seconds: float) -> bool:
        """Whether so much time is left."""
        return time.monotonic() + seconds < self.end
