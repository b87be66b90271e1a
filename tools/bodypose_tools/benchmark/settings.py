"""What a person may choose of a benchmark and of `tools tune`."""

from __future__ import annotations

from enum import StrEnum


class Objective(StrEnum):
    """What is to be best."""

    THROUGHPUT = "throughput"  # images/s, whatever the number of clients
    LATENCY = "latency"  # median latency of one client


class Effort(StrEnum):
    """How long to measure: minutes, or a quarter of an hour."""

    QUICK = "quick"
    FULL = "full"
