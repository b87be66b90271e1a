"""The choice of a shipped model's graph and arithmetic for a CPU."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.settings import ShippedModel
from bodypose_tools.files.shipped import float_graph, int8_graph
from bodypose_tools.runtimes.cpu import has_bfloat16, has_int8
from bodypose_tools.runtimes.settings import Precision

from .settings import NetworkPrecision


@dataclass(frozen=True, slots=True)
class Choice:
    """A shipped graph, the arithmetic of what is not INT8 in it, and why."""

    graph: Path
    precision: Precision
    why: str

    def __str__(self) -> str:
        return f"{self.graph.name} in {self.precision}: {self.why}"


def choose(model: ShippedModel, wanted: NetworkPrecision, flags: Collection[str]) -> Choice:
    """The graph of a shipped model, and its arithmetic on a CPU with these instruction sets.

    `AUTO` takes INT8 where the CPU adds INT8 products in 32 bits (VNNI, AMX) and the graph passed
    its gates, with bfloat16 for the rest where the CPU has it; float32 elsewhere, because on AVX2
    alone INT8 sums overflow.

    Args:
        model: the shipped model.
        wanted: AUTO, INT8, BF16 or F32.
        flags: `runtimes.cpu.cpu_flags`.
    """
    rest = Precision.BF16 if has_bfloat16(flags) else Precision.F32
    int8 = int8_graph(model)
    match wanted:
        case NetworkPrecision.INT8:
            return Choice(int8, rest, "INT8 was asked for")
        case NetworkPrecision.AUTO if not has_int8(flags):
            return Choice(float_graph(model), Precision.F32, "this CPU has no VNNI and no AMX")
        case NetworkPrecision.AUTO if _passed_its_gates(int8):
            return Choice(int8, rest, "this CPU has INT8 products, and the graph passed its gates")
        case NetworkPrecision.AUTO:
            return Choice(float_graph(model), rest, "the INT8 graph did not pass its gates")
    return Choice(float_graph(model), Precision(wanted), f"{wanted} was asked for")


def _passed_its_gates(graph: Path) -> bool:
    """Whether the record of an INT8 graph has gates, and every one was passed."""
    gates = Artifact.open(graph).settings.get("gates", [])
    return bool(gates) and all(gate["passed"] for gate in gates)
