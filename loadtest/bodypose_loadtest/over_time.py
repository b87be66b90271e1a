"""Changes within a run: a soak by the minute, and how long a spike lasts in the answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .machine import Sampler
from .records import Records
from .step_result import latencies

_MINUTE_S = 60.0
_STILL_SLOW = 2.0  # times the p95 of before the spike


def by_minute(
    records: Records, started_s: float, warm_up_s: float, sampler: Sampler
) -> list[dict[str, float]]:
    """Requests, errors, p99 and the server's memory of each minute.

    Args:
        records: of one stretch.
        started_s: when it did, on the monotonic clock.
        warm_up_s: what of it is left out.
        sampler: watched meanwhile.
    """
    rows = []
    last = records.rows["intended"].max(initial=0.0)
    for begin in np.arange(warm_up_s, last, _MINUTE_S):
        part = records.intended_within(begin, begin + _MINUTE_S)
        samples = sampler.between(started_s + begin, started_s + begin + _MINUTE_S)
        rows.append(
            {
                "minute": (begin - warm_up_s) / _MINUTE_S,
                "requests": float(len(part.rows)),
                "errors": float(np.sum(~part.ok)),
                "p99_ms": latencies(part.latency_s[part.ok] * 1000)["p99"] or 0.0,
                "server_mib": max((sample.server_mib for sample in samples), default=0.0),
            }
        )
    return rows


def recovery_s(parts: Sequence[Records], calm: tuple[float, float], end_s: float) -> float:
    """How long after a spike's end the last request came that failed or was still slow.

    The longest of the repeats; slow is beyond twice the p95 of before the spike.

    Args:
        parts: the records of each repeat.
        calm: begin and end of the time before the spike.
        end_s: of the spike.
    """
    longest = 0.0
    for records in parts:
        before, after = records.intended_within(*calm), records.intended_within(end_s, np.inf)
        p95_ms = latencies(before.latency_s[before.ok] * 1000)["p95"]
        limit_s = _STILL_SLOW * p95_ms / 1000 if p95_ms else np.inf
        felt = after.rows["intended"][~after.ok | (after.latency_s > limit_s)]
        longest = max(longest, float(felt.max(initial=end_s)) - end_s)
    return longest
