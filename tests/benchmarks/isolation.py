"""Measures what hostile requests cost the others: good requests with and without 20 % hostile ones.

    python -m tests.benchmarks.isolation --out docs/results/isolation.json

Good requests arrive at a fixed rate (Poisson; by default 40 % of what one sender at a time gets),
latency counts from the moment each should have been sent. Rounds without and with hostile requests
take turns on one server; in the latter one request of five is hostile and comes on top. Every
answer is compared, bit by bit, with the one that the image got before any hostile request.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bodypose_client.wire.tensor_bytes import wire_bytes
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import ENSEMBLE
from bodypose_tools.results.record import Measurement
from bodypose_tools.server.embedded import embedded_server
from tests.fuzz import hostile_images

ROOT = Path(__file__).parents[2]
COCO = Path(os.environ.get("COCO_DIR", ROOT.parent / "shared" / "coco"))
HOSTILE_SHARE = 0.2
ALLOWED_RATIO = 1.5
SHARE_OF_SERIAL_RATE = 0.4
_THREADS = 64  # requests that may be under way at once
_RESAMPLES = 2000
_CHANNEL = [("grpc.enable_http_proxy", 0), ("grpc.max_send_message_length", -1)]


def main() -> int:
    options = _options()
    measurement = Measurement(timed=True)
    with tempfile.TemporaryDirectory() as name:
        build_repository(options.model, Path(name) / "repository")
        with (
            embedded_server(Path(name) / "repository") as server,
            grpc.insecure_channel(server.grpc_url, options=_CHANNEL) as channel,
        ):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            good = [_request(path.read_bytes()) for path in _images(options)]
            rate = options.rate or SHARE_OF_SERIAL_RATE * _serial_rate(stub, good)
            rounds = measure(stub, good, rate, options)
    result = summary(rounds, rate, options)
    ratio, low, high = result["p99_ratio"], *result["p99_ratio_95"]
    outcome = "met" if high <= ALLOWED_RATIO else "missed" if low > ALLOWED_RATIO else "not decided"
    measurement.write(
        options.out,
        result,
        models=[options.model],
        data=[options.coco / "person_keypoints_val.json"],
        repeats={"rounds": options.rounds, "order": "in turn, order alternating"},
        seeds={"arrivals": "number of the round", "bootstrap": 0},
        verdicts=[
            {
                "name": "p99 with hostile requests over p99 without",
                "rule": f"<= {ALLOWED_RATIO}",
                "median": ratio,
                "low": low,
                "high": high,
                "outcome": outcome,
            }
        ],
    )
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 0 if result["within_1_5"] and result["changed_answers"] == 0 else 1


@dataclass(frozen=True)
class Round:
    """Good requests of one round: latency in ms; answers that were not the known ones."""

    latencies_ms: list[float]
    changed: int
    failed: int
    hostile_answered: dict[str, int]  # by status code


def _serial_rate(stub: Any, good: list[Any]) -> float:
    """Requests a second of one sender that waits for every answer; the first half warms up."""
    half = len(good) // 2
    for request in good[:half]:
        stub.ModelInfer(request)
    started = time.perf_counter()
    for request in good[half:]:
        stub.ModelInfer(request)
    return (len(good) - half) / (time.perf_counter() - started)


def measure(
    stub: Any, good: list[Any], rate: float, options: argparse.Namespace
) -> list[tuple[Round, Round]]:
    """Pairs of a round without and a round with hostile requests, in alternating order."""
    hostile = [_request(data) for data, _ in hostile_images.refused().values()]
    known = [_answer(stub.ModelInfer(request)) for request in good]
    turns = itertools.cycle(np.random.default_rng(1).permutation(len(hostile)))
    pairs = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for number in range(options.rounds + 1):
            sides = {}
            for with_hostile in (False, True) if number % 2 else (True, False):
                seed = np.random.default_rng(number)  # both sides: the same arrivals
                arrivals = np.cumsum(seed.exponential(1 / rate, options.requests))
                others = (
                    [(_between(arrivals, at), hostile[next(turns)]) for at in _places(options)]
                    if with_hostile
                    else []
                )
                sides[with_hostile] = _round(stub, pool, good, known, arrivals, others)
            if number:  # the first one warms up
                pairs.append((sides[False], sides[True]))
            sys.stderr.write(f"round {number} of {options.rounds}\n")
    return pairs


def _places(options: argparse.Namespace) -> np.ndarray:
    """Behind which good requests a hostile one comes, so that they are a fifth of all."""
    count = round(options.requests * HOSTILE_SHARE / (1 - HOSTILE_SHARE))
    return np.linspace(0, options.requests - 1, count, dtype=int)


def _between(arrivals: np.ndarray, place: int) -> float:
    return float(arrivals[place]) + 0.001


def _round(
    stub: Any,
    pool: ThreadPoolExecutor,
    good: list[Any],
    known: list[str],
    arrivals: np.ndarray,
    others: list[tuple[float, Any]],
) -> Round:
    done: list[Future[tuple[float, str]]] = []
    codes: dict[str, int] = {}
    start = time.perf_counter() + 0.1
    lock = threading.Lock()

    def ask_good(number: int, at: float) -> tuple[float, str]:
        answer = _answer(stub.ModelInfer(good[number % len(good)]))
        return (time.perf_counter() - start - at) * 1000, answer

    def ask_hostile(request: Any) -> None:
        try:
            stub.ModelInfer(request)
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        with lock:
            codes[code] = codes.get(code, 0) + 1

    plan = [(float(at), number, None) for number, at in enumerate(arrivals)]
    plan += [(at, -1, request) for at, request in others]
    rest = []
    for at, number, request in sorted(plan, key=lambda each: each[0]):
        time.sleep(max(0.0, start + at - time.perf_counter()))
        if request is None:
            done.append(pool.submit(ask_good, number, at))
        else:
            rest.append(pool.submit(ask_hostile, request))
    for future in rest:
        future.result()
    latencies, changed, failed = [], 0, 0
    for number, future in enumerate(done):
        if future.exception():
            failed += 1
            continue
        latency, answer = future.result()
        latencies.append(latency)
        changed += answer != known[number % len(known)]
    return Round(latencies, changed, failed, codes)


def summary(
    rounds: list[tuple[Round, Round]], rate: float, options: argparse.Namespace
) -> dict[str, Any]:
    without, with_hostile = zip(*rounds, strict=True)
    ratio, low, high = _p99_ratio(without, with_hostile)
    codes: dict[str, int] = {}
    for each in with_hostile:
        for code, count in each.hostile_answered.items():
            codes[code] = codes.get(code, 0) + count
    return {
        "schema": "bodypose-isolation/1",
        "p99_ratio": round(ratio, 3),
        "p99_ratio_95": [round(low, 3), round(high, 3)],
        "within_1_5": ratio <= ALLOWED_RATIO,
        "changed_answers": sum(each.changed for pair in rounds for each in pair),
        "failed_good_requests": {
            "without": sum(each.failed for each in without),
            "with": sum(each.failed for each in with_hostile),
        },
        "without": _percentiles(without),
        "with": _percentiles(with_hostile),
        "hostile_answers": codes,
        "good_rate_per_s": round(rate, 1),
        "good_requests": options.requests * len(rounds),
        "hostile_share": HOSTILE_SHARE,
        "rounds": len(rounds),
        "cpus": os.cpu_count(),
        "model": options.model.name,
    }


def _latencies(rounds: tuple[Round, ...]) -> np.ndarray:
    return np.concatenate([each.latencies_ms for each in rounds])


def _percentiles(rounds: tuple[Round, ...]) -> dict[str, float]:
    ends = np.percentile(_latencies(rounds), (50, 90, 99, 100))
    names = ("p50_ms", "p90_ms", "p99_ms", "max_ms")
    return {name: round(float(end), 2) for name, end in zip(names, ends, strict=True)}


def _p99_ratio(
    without: tuple[Round, ...], with_hostile: tuple[Round, ...]
) -> tuple[float, float, float]:
    """p99 with over p99 without, and its 95 % interval from resampled pairs of rounds."""

    def ratio(chosen: Any) -> float:
        sides = [
            np.percentile(_latencies(tuple(side[place] for place in chosen)), 99)
            for side in (with_hostile, without)
        ]
        return float(sides[0] / sides[1])

    random = np.random.default_rng(0)
    drawn = [ratio(random.integers(0, len(without), len(without))) for _ in range(_RESAMPLES)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return ratio(range(len(without))), float(low), float(high)


def _images(options: argparse.Namespace) -> list[Path]:
    images = sorted((options.coco / "val").glob("*.jpg"))[: options.images]
    if not images:
        raise SystemExit(f"{options.coco}: expected COCO's val images; set COCO_DIR")
    return images


def _request(image: bytes) -> Any:
    payload = np.empty((1, 1), np.object_)
    payload[0, 0] = image
    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    request.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    request.raw_input_contents.append(wire_bytes(payload))
    return request


def _answer(reply: Any) -> str:
    return hashlib.sha256(b"".join(reply.raw_output_contents)).hexdigest()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, default=ROOT / "tools/bodypose_tools/models/bodypose-s.onnx"
    )
    parser.add_argument("--coco", type=Path, default=COCO)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rate", type=float, help="good requests a second")
    parser.add_argument("--requests", type=int, default=200, help="good ones in a round")
    parser.add_argument("--rounds", type=int, default=10, help="of each side")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
