"""The CSV that NVIDIA's perf_analyzer writes with `-f`, so that its readers read ours."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from .orders import Loop

_PERCENTILES = ("p50", "p90", "p95", "p99")
_TIMES = (
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
)


def perf_csv(steps: Sequence[Mapping[str, Any]]) -> str:
    """The valid steps, one row each; times in whole microseconds.

    As in perf_analyzer, a closed loop's first column is Concurrency, an open loop's Request Rate.
    Sending and receiving are not measured apart: they are within the network's share.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    closed = not steps or steps[0]["loop"] == Loop.CLOSED
    first = "Concurrency" if closed else "Request Rate"
    percentiles = [f"{name} latency" for name in _PERCENTILES]
    table.writerow([first, "Inferences/Second", *_TIMES, *percentiles])
    for step in steps:
        if step["invalid"] or step["latency_ms"]["mean"] is None:
            continue
        models = step["server"].get("models", {}).values()
        inside = [
            sum(model[f"{part}_ms"] for model in models)
            for part in ("queue", "compute_input", "compute_infer", "compute_output")
        ]
        network = max(0.0, step["latency_ms"]["mean"] - sum(inside))
        times = [0.0, network, *inside, 0.0, *(step["latency_ms"][name] for name in _PERCENTILES)]
        load = f"{step['load']:g}"
        table.writerow([load, f"{step['throughput']:.2f}", *(round(ms * 1000) for ms in times)])
    return text.getvalue()
