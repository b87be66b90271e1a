"""`tools bulk` against the network alone on the same cores, by workers, and over many images.

Each round has three sides in turns: the network alone on ready pixels, a worker on each core
without Ray, and with it. A worker's time begins when it has opened the network. And in workers that
all run at once, each part is paired with the network alone in the same process right before or
after it: what neighbours of a shared machine take in one minute and not in the next cancels there.

python -m tests.benchmarks.bulk --images ../shared/coco/val --out docs/results/bulk.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bodypose_client.files.image_sources import image_files
from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_tools.bulk.jobs import Job, Network, network_job
from bodypose_tools.bulk.on_ray import on_ray
from bodypose_tools.bulk.processes import in_processes
from bodypose_tools.bulk.run import Start
from bodypose_tools.bulk.sources import Part, parts_of
from bodypose_tools.bulk.worker import Worker
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.results.ratios import in_turns, paired_ratio, verdict
from bodypose_tools.results.record import Measurement, read_made
from bodypose_tools.runtimes.predictor import Predictor
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.runtimes.settings import GraphRuntime
from pose_runtime.images import network_pixels
from tests.bulk_inputs import as_links
from tests.processes import TOOLS
from tests.serving import SPEC
from tests.tiny_network import write_tiny_onnx

GOAL = 0.95
ALONE = "network alone"
OTHERS = ("without Ray", "on Ray")
PARTS_OF_A_WORKER = 4
IMAGES_OF_A_PART = 16
SUBJECTS = ("against_the_network", "part_by_part", "images_per_s_by_workers", "many")
MIB = 2**20

_alone: tuple[Predictor, np.ndarray] | None = None  # of a process of `alone_pace`
_worker: Worker | None = None  # of a process of `part_by_part`


def openvino_job(model: Path, folder: Path) -> Job:
    return network_job(model, GraphRuntime.OPENVINO, folder, DISPLAY_MIN_SCORE)


@dataclass(frozen=True, slots=True)
class Piece:
    """Images that a worker has done; times as in `Done`."""

    images: int
    began: float
    ended: float
    cpu_s: float
    worker: int


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one side in one round."""

    images_per_s: float  # of all workers, each from the start of its first part to its last's end
    cpu_ms: float  # processor time of the workers for an image

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Pace:
        """One worker may begin before another is ready: each has its own time."""
        rate = 0.0
        for worker in {piece.worker for piece in pieces}:
            own = [piece for piece in pieces if piece.worker == worker]
            seconds = max(piece.ended for piece in own) - min(piece.began for piece in own)
            rate += sum(piece.images for piece in own) / seconds
        images = sum(piece.images for piece in pieces)
        return cls(rate, 1e3 * sum(piece.cpu_s for piece in pieces) / images)


def parts_for(job: Job, images: Path, count: int, size: int) -> list[Part]:
    """Parts of `count` images, those of the folder again and again."""
    source = job.folder.with_name("images.txt")
    files = [str(file.path.absolute()) for file in image_files([str(images)])]
    source.write_text("\n".join((files * (1 + count // len(files)))[:count]))
    return parts_of([source], job.folder, size)


def bulk_pace(start: Start, model: Path, images: Path, per_worker: int, workers: int) -> Pace:
    """`tools bulk` with so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        job, count = openvino_job(model, Path(folder) / "out"), per_worker * workers
        parts = parts_for(job, images, count, per_worker // PARTS_OF_A_WORKER)
        with closing(start(job, parts, workers=workers)) as working:
            dones = list(working)
    assert [done.failure for done in dones] == [None] * len(parts)
    assert sum(done.counts.images - done.counts.errors for done in dones) == count
    return Pace.of(
        [
            Piece(each.counts.images, each.began, each.ended, each.cpu_s, each.worker)
            for each in dones
        ]
    )


def alone_pace(model: Path, images: Path, per_worker: int, workers: int) -> Pace:
    """The network on ready pixels, by `bulk_pace`'s processes, threads and pieces."""
    job = openvino_job(model, Path())
    assert isinstance(job.by, Network)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _open_alone, (job.by, images)) as pool:
        pieces = [per_worker // PARTS_OF_A_WORKER] * (PARTS_OF_A_WORKER * workers)
        return Pace.of(list(pool.map(_predict_alone, pieces)))


def _open_alone(network: Network, images: Path) -> None:
    global _alone
    jpegs = [file.read() for file in image_files([str(images)])[:16]]
    predict, spec, _ = open_predictor(network.model, network.runtime, network.threads)
    pixels = [network_pixels(each, spec.network_hw, spec.limits)[0] for each in jpegs]
    _alone = predict, np.stack(pixels)


def _predict_alone(count: int) -> Piece:
    assert _alone is not None
    predict, pixels = _alone
    began, cpu_began_s = time.time(), time.process_time()
    for number in range(count):
        index = number % len(pixels)
        predict(pixels[index : index + 1])
    cpu_s = time.process_time() - cpu_began_s
    return Piece(count, began, time.time(), cpu_s, os.getpid())


def part_by_part(
    images: Path, per_worker: int, measurement: Measurement
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A worker's images/s over the network's alone, in turns in the same process, and a verdict.

    Args:
        images: folder of photos.
        per_worker: number of parts of each worker.
        measurement: of the whole.
    """
    cores = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        job = openvino_job(SHIPPED_MODEL, Path(folder) / "out")
        count = IMAGES_OF_A_PART * per_worker * cores
        parts = parts_for(job, images, count, IMAGES_OF_A_PART)
        with ProcessPoolExecutor(cores, context, _open_both, (job, images)) as pool:
            seconds = np.array(list(pool.map(_part_and_alone, parts)))
    measurement.between()
    ratio = paired_ratio(seconds[:, 0], seconds[:, 1])
    record = {"workers": cores, "images_of_a_part": IMAGES_OF_A_PART, "share": ratio.to_json()}
    rule = f"at least {GOAL} of the network alone"
    return record, verdict("bulk, part by part", rule, ratio, ratio.at_least(GOAL))


def _open_both(job: Job, images: Path) -> None:
    global _worker
    assert isinstance(job.by, Network)
    _open_alone(job.by, images)
    _worker = Worker(job)


def _part_and_alone(part: Part) -> tuple[float, float]:
    """Seconds of the network alone, and of a part of as many images."""
    assert _worker is not None
    took: dict[str, float] = {}
    for name in in_turns(["alone", "part"], part.number):
        if name == "alone":
            piece = _predict_alone(part.count)
            took[name] = piece.ended - piece.began
        else:
            done = _worker(part)
            assert (done.failure, done.counts.images) == (None, part.count)
            took[name] = done.ended - done.began
    return took["alone"], took["part"]


def against_the_network(
    images: Path, rounds: int, per_worker: int, measurement: Measurement, others: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Images/s of each side in each round, the ratios to the network alone, and verdicts."""
    cores = len(os.sched_getaffinity(0))
    sides: dict[str, Callable[[], Pace]] = {
        ALONE: partial(alone_pace, SHIPPED_MODEL, images, per_worker, cores),
        "without Ray": partial(bulk_pace, in_processes, SHIPPED_MODEL, images, per_worker, cores),
        "on Ray": partial(bulk_pace, on_ray, SHIPPED_MODEL, images, per_worker, cores),
    }
    sides = {name: side for name, side in sides.items() if name in (ALONE, *others)}
    paces: dict[str, list[Pace]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in in_turns(list(sides), number):
            paces[name].append(sides[name]())
            print(f"round {number}: {name}: {paces[name][-1]}", flush=True)  # noqa: T201
        if number == rounds // 2:
            measurement.between()
    record: dict[str, Any] = {"workers": cores, "images_of_a_round": per_worker * cores}
    verdicts = []
    for name in sides:
        rates = [pace.images_per_s for pace in paces[name]]
        cpu_ms = [pace.cpu_ms for pace in paces[name]]
        record[name] = {
            "images_per_s": [round(rate, 2) for rate in rates],
            "median": round(float(np.median(rates)), 2),
            "cpu_ms": round(float(np.median(cpu_ms)), 2),
        }
        if name != ALONE:
            ratio = paired_ratio(rates, [pace.images_per_s for pace in paces[ALONE]])
            cpu_share = paired_ratio([pace.cpu_ms for pace in paces[ALONE]], cpu_ms)
            record[name]["share_of_the_network_alone"] = ratio.to_json()
            record[name]["share_of_the_network_in_cpu_ms"] = cpu_share.to_json()
            rule = f"at least {GOAL} of the network alone"
            verdicts.append(verdict(f"bulk {name}", rule, ratio, ratio.at_least(GOAL)))
    return record, verdicts


def by_workers(images: Path, per_worker: int) -> dict[str, float]:
    """Images/s without Ray, by the number of workers."""
    cores = len(os.sched_getaffinity(0))
    counts = sorted({1, *(2**n for n in range(1, 9) if 2**n <= cores), cores})
    return {
        str(workers): round(
            bulk_pace(in_processes, SHIPPED_MODEL, images, per_worker, workers).images_per_s, 2
        )
        for workers in counts
    }


def over_many(count: int, options: Sequence[str]) -> dict[str, Any]:
    """`tools bulk` on `count` links to 40 pictures, by a network that costs next to nothing.

    Memory is that of the command and all its processes, what they share counted once, in each
    tenth of the run.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        model = write_tiny_onnx(place / "tiny.onnx", SPEC)
        as_links(place / "in", count)
        command = [*TOOLS, "bulk", str(place / "in"), "-o", str(place / "out"), "-m", str(model)]
        began = time.monotonic()
        with subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL) as process:
            samples = list(_memory(process, place / "out"))
        seconds = time.monotonic() - began
        assert process.returncode == 0
        record = json.loads((place / "out/_bulk.json").read_text())
    assert (record["images"], record["people"], record["errors"]) == (count, count, 0)
    tenths = [
        [mib for share, mib in samples if tenth <= 10 * share < tenth + 1] for tenth in range(10)
    ]
    return {
        "images": count,
        "parts": record["parts"],
        "seconds": round(seconds, 1),
        "images_per_s": round(count / seconds, 1),
        "mib_by_tenth": [round(float(np.median(each))) if each else None for each in tenths],
    }


def _memory(process: subprocess.Popen[bytes], out: Path) -> Iterator[tuple[float, float]]:
    """Share of the parts that are done, and MiB, now and then."""
    total = 0
    while process.poll() is None:
        time.sleep(1)
        paths = out / "_paths.lst"
        if not total and paths.exists():
            total = -(-paths.read_bytes().count(b"\0") // 256)
        done = sum(1 for _ in out.glob("part-*.parquet"))
        try:
            everyone = [psutil.Process(process.pid)]
            everyone += everyone[0].children(recursive=True)
            mib = sum(each.memory_full_info().pss for each in everyone) / MIB
        except psutil.NoSuchProcess:
            continue
        if 0 < done < total:
            yield done / total, mib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--per-worker", type=int, default=100, help="images of a round")
    parser.add_argument("--parts", type=int, default=120, help="of a worker, part by part")
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--subject", choices=SUBJECTS, action="append", help="the others stay")
    parser.add_argument("--side", choices=OTHERS, action="append", help="the other stays")
    asked = parser.parse_args()
    subjects = asked.subject or SUBJECTS
    record: dict[str, Any] = {}
    verdicts: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    if asked.subject and asked.out.exists():
        record, made = read_made(asked.out)
        record = {key: record[key] for key in SUBJECTS if key in record}
        verdicts = made["verdicts"]
    measurement = Measurement(timed=True)
    if "against_the_network" in subjects:
        sides = asked.side or OTHERS
        compared, found = against_the_network(
            asked.images, asked.rounds, asked.per_worker, measurement, sides
        )
        record["against_the_network"] = {**record.get("against_the_network", {}), **compared}
    if "part_by_part" in subjects:
        record["part_by_part"], judged = part_by_part(asked.images, asked.parts, measurement)
        found = [*found, judged]
    names = [each["name"] for each in found]
    verdicts = [*found, *(each for each in verdicts if each["name"] not in names)]
    if "images_per_s_by_workers" in subjects:
        record["images_per_s_by_workers"] = by_workers(asked.images, asked.per_worker)
    if "many" in subjects:
        record["many"] = {
            "without Ray": over_many(asked.many, []),
            "on Ray": over_many(asked.many, ["--address", "local"]),
        }
    measurement.write(
        asked.out,
        {"schema": "bodypose-bulk/1", **record},
        models=[SHIPPED_MODEL],
        data=[asked.images],
        repeats={"rounds": asked.rounds, "order": "in turn, order alternating"},
        verdicts=verdicts,
    )


if __name__ == "__main__":
    main()
