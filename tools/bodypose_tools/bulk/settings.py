"""What a person may choose of a bulk run: sizes, and the share of one of several machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pose_runtime.errors import PoseError

PART_SIZE: Final = 256  # images; a killed worker loses at most one part's work
IN_FLIGHT: Final = 8  # requests at once of a worker that asks a server
GPU_BATCH: Final = 8
GPU_THREADS: Final = 4  # that decode ahead


class BulkError(PoseError):
    """A bulk run cannot start or go on; its finished parts stay."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The share of one of `count` machines: parts `index`, `index + count`, ..."""

    index: int  # from 0
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `i/n`.

        Raises:
            BulkError: other text, or i outside of 0..n-1.
        """
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise BulkError(
                f"--shard: expected i/n with i from 0 to n - 1, such as 0/4, got {text!r}"
            )
        return cls(int(index), int(count))
