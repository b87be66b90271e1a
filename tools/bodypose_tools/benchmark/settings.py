"""What a person may choose of a benchmark and of `tools tune`."""

from __future__ import annotations

from enum import StrEnum


class Objective(StrEnum):
    """The quantity that `tools tune` optimises."""

    THROUGHPUT = "throughput"  # images/s, whatever the number of clients
    LATENCY = "latency"  # median latency of one client


class Effort(StrEnum):
    """Duration of a benchmark: under 3 minutes, or under 20."""

    QUICK = "quick"
    FULL = "full"


class Quantiser(StrEnum):
    """INT8 quantisers of other projects, which `tools compare-quantisers` installs."""

    MODEL_OPTIMIZER = "modelopt"
    NNCF = "nncf"
    ONNX_RUNTIME = "onnxruntime"
