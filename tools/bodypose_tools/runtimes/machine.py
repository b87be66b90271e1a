"""The machine that something was measured on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_CPUINFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def machine() -> dict[str, Any]:
    """CPU, its vector instructions, cores and how busy it was at the start."""
    fields = cpu_fields()
    flags = fields.get("flags", "").split()
    return {
        "cpu": fields.get("model name", "unknown"),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "load_average_at_start": round(os.getloadavg()[0], 1),
    }


def cpu_fields() -> dict[str, str]:
    """What Linux says of the first core: "model name", "flags" and more; elsewhere nothing."""
    fields: dict[str, str] = {}
    for line in _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else ():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields
