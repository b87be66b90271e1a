"""The measurement of the served ensemble: against the ideal, under load, from a cold start."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tritonclient.grpc import service_pb2

from bodypose_tools.data.photos import photo_jpeg
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import ENSEMBLE
from bodypose_tools.repository.tuning import UNTUNED
from bodypose_tools.results.ratios import in_turns, median_of, paired_ratio
from bodypose_tools.runtimes.clock import spread, take_turns
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from bodypose_tools.server.load import (
    Load,
    closed_loop,
    grpc_asks,
    grpc_stub,
    http_asks,
    image_request,
    joined,
    knee_of,
)

from .client_side import ROUNDS
from .client_side import measure as measure_client_side
from .conditions import Setting
from .in_process import ideal_ways, steps_of

CLIENTS = (1, 2, 4, 8, 16)
PRECISION = UNTUNED.precision  # arithmetic of the embedded network
_OVERLOAD = 8  # times the clients at the knee
_SERVED = "ensemble"
STAGES = ("queue", "compute_input", "compute_infer", "compute_output")

# Count and nanoseconds, by model and stage.
Spent = Mapping[str, Mapping[str, tuple[int, int]]]


def measure(setting: Setting) -> dict[str, Any]:
    """All measurements that need a running server, on one photo of 640 x 480."""
    jpeg = photo_jpeg(640, 480)
    seconds = setting.pick(2, 10)
    in_turn_s = setting.pick(1, 4)  # a side's turn in a round
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        build_repository(setting.model, repository)
        ready = [_seconds_to_ready(repository) for _ in range(ROUNDS)]
        with embedded_server(repository) as server:
            cold = {"ready_s": median_of(ready).to_json(), **_memory(server)}
            setting.say("served: by clients")
            curve = _curve(server, jpeg, seconds)
            knee = knee_of(curve["grpc"])
            peak = max(curve["grpc"], key=lambda step: step["images_per_s"])["clients"]
            setting.say("served: in turns with the ideal")
            ideal = _against_ideal(setting, server, jpeg, peak, in_turn_s)
            setting.say("served: under load")
            overload = _overload(server, jpeg, peak, _OVERLOAD * knee["clients"], in_turn_s)
            setting.say("served: pre- and postprocessing in the client")
            rival = measure_client_side(setting, server, jpeg, knee["clients"], in_turn_s)
            return {
                "cold_start": cold,
                "by_clients": curve,
                **ideal,
                "one_client": _one_client(setting, server, jpeg),
                "knee": knee,
                "overload": overload,
                "client_side": rival,
                "memory_after": {**_memory(server), "images": _images_so_far(server)},
            }


def _seconds_to_ready(repository: Path) -> float:
    started = time.perf_counter()
    with embedded_server(repository):
        return time.perf_counter() - started


def _curve(server: EmbeddedServer, jpeg: bytes, seconds: float) -> dict[str, Any]:
    """Rate and latency by clients and protocol."""
    curve: dict[str, list[dict[str, Any]]] = {"grpc": [], "http": []}
    with grpc_stub(server.grpc_url) as stub:
        asks = {
            "grpc": grpc_asks(stub, image_request(jpeg)),
            "http": http_asks(server.http_url, jpeg),
        }
        for clients in CLIENTS:
            for protocol, make_ask in asks.items():
                curve[protocol].append(closed_loop(make_ask, clients, seconds).summary())
    return curve


def _against_ideal(
    setting: Setting, server: EmbeddedServer, jpeg: bytes, clients: int, seconds: float
) -> dict[str, Any]:
    """The ensemble with `clients` in turns with both ideals, and its share of the better one."""
    with grpc_stub(server.grpc_url) as stub:
        make_ask = grpc_asks(stub, image_request(jpeg))
        ways = ideal_ways(setting, jpeg, PRECISION)
        rates = _rates_in_turns(
            {_SERVED: lambda spent: closed_loop(make_ask, clients, spent).per_second, **ways},
            seconds,
        )
    ideals = {name: round(float(np.median(rates[name])), 2) for name in ways}
    best = max(ideals, key=lambda name: ideals[name])
    return {
        "ideal_images_per_s": ideals,
        "share_of_ideal": paired_ratio(rates[_SERVED], rates[best]).to_json(),
    }


def _rates_in_turns(
    sides: Mapping[str, Callable[[float], float]], seconds: float
) -> dict[str, list[float]]:
    """Images/s of each side, one a round."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(ROUNDS):
        for name in in_turns(list(sides), number):
            rates[name].append(sides[name](seconds))
    return rates


def _one_client(setting: Setting, server: EmbeddedServer, jpeg: bytes) -> dict[str, Any]:
    """The latency of one client, and what the server adds to its steps: in turns, call by call.

    Seconds of one side beside seconds of the other would differ by what else the machine does.
    """
    with grpc_stub(server.grpc_url) as stub:
        sides = {_SERVED: grpc_asks(stub, image_request(jpeg))()}
        sides |= steps_of(setting, jpeg, PRECISION)
        before = spent(stub)
        seconds = take_turns(sides, setting.pick(20, 300))
        after = spent(stub)
    milliseconds = {name: 1000 * each for name, each in seconds.items()}
    latencies = milliseconds.pop(_SERVED)
    added = latencies - np.sum(list(milliseconds.values()), axis=0)
    return {
        "steps_ms": {name: spread(values) for name, values in milliseconds.items()},
        "latency_ms": round(float(np.median(latencies)), 2),
        "added_ms": median_of(added).to_json(),
        "above_network_ms": median_of(latencies - milliseconds["network"]).to_json(),
        "models_ms": {
            name: {stage: stages[stage] for stage in STAGES}
            for name, stages in milliseconds_between(before, after).items()
        },
    }


def milliseconds_between(before: Spent, after: Spent) -> dict[str, dict[str, float]]:
    """Milliseconds of a request between two readings of `spent`, by model and stage."""
    return {
        name: {
            stage: round(
                (ns - before[name][stage][1]) / max(n - before[name][stage][0], 1) / 1e6, 3
            )
            for stage, (n, ns) in stages.items()
        }
        for name, stages in after.items()
    }


def spent(stub: Any) -> Spent:
    """Triton's statistics, of the stages and, as "success", of whole requests."""
    answer = stub.ModelStatistics(service_pb2.ModelStatisticsRequest())
    return {
        model.name: {
            stage: (spent.count, spent.ns)
            for stage in (*STAGES, "success")
            for spent in (getattr(model.inference_stats, stage),)
        }
        for model in answer.model_stats
    }


def _overload(
    server: EmbeddedServer, jpeg: bytes, peak: int, clients: int, seconds: float
) -> dict[str, Any]:
    """Load of `clients`, far above the knee, in turns with the number that had the best rate."""
    loads: dict[str, list[Load]] = {"at_peak": [], "above": []}
    with grpc_stub(server.grpc_url) as stub:
        make_ask = grpc_asks(stub, image_request(jpeg))
        for number in range(ROUNDS):
            for name in in_turns(list(loads), number):
                count = peak if name == "at_peak" else clients
                loads[name].append(closed_loop(make_ask, count, seconds))
    share = paired_ratio(
        *([load.per_second for load in loads[name]] for name in ("above", "at_peak"))
    )
    return {
        **{
            name: joined(each, each[0].clients, sum(load.seconds for load in each)).summary()
            for name, each in loads.items()
        },
        "share_of_peak": share.to_json(),
    }


def _images_so_far(server: EmbeddedServer) -> int:
    with grpc_stub(server.grpc_url) as stub:
        return spent(stub)[ENSEMBLE]["compute_infer"][0]


def _memory(server: EmbeddedServer) -> dict[str, Any]:
    """Megabytes of all the server's processes: RSS, and with shared pages counted once (PSS)."""
    rss, pss = 0, 0
    for process in processes_of(server):
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            rss, pss = rss + memory.rss, pss + memory.pss
    return {"rss_mb": round(rss / 1e6), "pss_mb": round(pss / 1e6)}


def processes_of(server: EmbeddedServer) -> Iterator[psutil.Process]:
    """The server's own process, and those of its models."""
    root = psutil.Process(server.pid)
    yield root
    yield from root.children(recursive=True)
