"""The raw measurement: one record for each request."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Times are seconds; `error` is 0 or the place of its kind in `Records.errors`.
RECORD = np.dtype(
    [("intended", "f8"), ("start", "f8"), ("end", "f8"), ("image", "i4"), ("error", "i4")]
)


@dataclass(frozen=True, slots=True)
class Records:
    """Requests in the order of their intended start; times count from the start of the work."""

    rows: NDArray[Any]
    errors: tuple[str, ...]  # errors[0] is "": none

    @classmethod
    def merged(
        cls, parts: Sequence[tuple[NDArray[Any], Sequence[str]]], start_at: float
    ) -> Records:
        """One record of what several generator processes noted."""
        kinds = ["", *sorted({kind for _, errors in parts for kind in errors if kind})]
        rows = []
        for part, errors in parts:
            row = part.copy()
            row["error"] = np.array([kinds.index(kind) for kind in errors])[part["error"]]
            for name in ("intended", "start", "end"):
                row[name] -= start_at
            rows.append(row)
        whole = np.concatenate(rows)
        return cls(whole[np.argsort(whole["intended"], kind="stable")], tuple(kinds))

    def intended_within(self, begin_s: float, end_s: float) -> Records:
        """The requests that were meant to start in this stretch."""
        intended = self.rows["intended"]
        return Records(self.rows[(begin_s <= intended) & (intended < end_s)], self.errors)

    @property
    def ok(self) -> NDArray[np.bool_]:
        return self.rows["error"] == 0

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """From the intended start, not from when the generator came round to it."""
        return self.rows["end"] - self.rows["intended"]


def requests_csv(parts: Sequence[tuple[str, int, Records]], images: Sequence[str]) -> bytes:
    """All requests of named steps and their repeats, warm-up too, as gzipped CSV."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["step", "repeat", "intended_s", "sent_s", "latency_ms", "image", "error"])
    for step, repeat, records in parts:
        for intended, start, end, image, error in records.rows.tolist():
            row = (f"{intended:.6f}", f"{start:.6f}", f"{(end - intended) * 1000:.3f}")
            table.writerow([step, repeat, *row, images[image], records.errors[error]])
    return gzip.compress(text.getvalue().encode(), mtime=0)
