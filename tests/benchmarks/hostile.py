"""What hostile images and files get: answers by kind, the time and the memory that they take.

python -m tests.benchmarks.hostile --out docs/results/hostile.json
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.results.record import Measurement
from pose_runtime.decode_process import BoundedDecoder
from pose_runtime.errors import PoseError
from pose_runtime.spec import ImageLimits
from tests.file_mutants import mutants_of
from tests.fuzz import file_kinds, hostile_images
from tests.tiny_network import write_tiny_onnx

HW = (288, 384)
MUTANTS = 200
# Of these each mutant takes seconds, because a network is built; tests/fuzz has them.
LEFT_OUT = ("keras", "record")


@dataclass
class Tally:
    """What inputs of one kind got."""

    answers: Counter[str] = field(default_factory=Counter)
    ms: list[float] = field(default_factory=list)

    def ask(self, question: Callable[[], object]) -> None:
        started = time.perf_counter()
        try:
            question()
            answer = "answered"
        except PoseError as error:
            answer = f"refused: {type(error).__name__}"
        except Exception as error:  # what none may be
            answer = f"traceback: {type(error).__name__}"
        self.ms.append((time.perf_counter() - started) * 1e3)
        self.answers[answer] += 1

    def to_json(self) -> dict[str, Any]:
        ms = sorted(self.ms)
        return {
            "inputs": len(ms),
            "answers": dict(sorted(self.answers.items())),
            "ms": {"median": round(ms[len(ms) // 2], 2), "max": round(ms[-1], 1)},
        }


def images() -> Tally:
    tally = Tally()
    decoder = BoundedDecoder(HW, ImageLimits())
    every = [*hostile_images.answered().values(), *hostile_images.long_sides().values()]
    every += [data for data, _ in hostile_images.refused().values()]
    for data in every:
        tally.ask(partial(decoder.network_pixels, data))
    decoder.close()
    return tally


def files(folder: Path) -> dict[str, Tally]:
    tiny = write_tiny_onnx(folder / "tiny.onnx", file_kinds.SPEC)
    tallies = {}
    keras = SHIPPED_MODEL.with_suffix(".keras")
    for kind in file_kinds.kinds_in(folder, folder, tiny, keras, SHIPPED_MODEL):
        name = kind.name
        if not kind.readers or name in LEFT_OUT:
            continue
        tally = tallies[name] = Tally()
        for _, content in mutants_of(name, kind.right, kind.mutant, MUTANTS):
            path = file_kinds.placed(kind, folder / "in", content)
            for reader in kind.readers:
                tally.ask(partial(reader, path))
    return tallies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    measurement = Measurement()
    tallies = {"images": images()}
    with tempfile.TemporaryDirectory() as folder:
        tallies |= files(Path(folder))
    told = [each.to_json() for each in tallies.values()]
    tracebacks = sum(
        count
        for tally in tallies.values()
        for answer, count in tally.answers.items()
        if answer.startswith("traceback")
    )
    measurement.write(
        options.out,
        {
            "schema": "bodypose-hostile/1",
            "kinds": dict(zip(tallies, told, strict=True)),
            "inputs": sum(each["inputs"] for each in told),
            "tracebacks": tracebacks,
            "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        },
        seeds={"mutants": "the kind's name and the mutant's number"},
    )
    return int(tracebacks > 0)


if __name__ == "__main__":
    sys.exit(main())
