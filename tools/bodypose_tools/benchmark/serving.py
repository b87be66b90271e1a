"""The measurement of the served ensemble: against the ideal, under load, from a cold start."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from tritonclient.grpc import service_pb2

from bodypose_tools.data.photos import photo_jpeg
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import ENSEMBLE
from bodypose_tools.repository.tuning import UNTUNED
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from bodypose_tools.server.load import (
    closed_loop,
    grpc_asks,
    grpc_stub,
    http_asks,
    image_request,
    knee_of,
)

from .client_side import measure as measure_client_side
from .conditions import Setting
from .in_process import ideal_images_per_s, steps_ms

CLIENTS = (1, 2, 4, 8, 16)
PRECISION = UNTUNED.precision  # what the embedded network runs in
_OVERLOAD = 8  # times the clients at the knee
_STAGES = ("queue", "compute_input", "compute_infer", "compute_output")


def measure(setting: Setting) -> dict[str, Any]:
    """Everything that needs a running server, on one photo of 640 x 480."""
    jpeg = photo_jpeg(640, 480)
    seconds = setting.pick(3, 10)
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        build_repository(setting.model, repository)
        started = time.perf_counter()
        with embedded_server(repository) as server:
            ready_s = time.perf_counter() - started
            cold = {"ready_s": round(ready_s, 2), **_memory(server)}
            setting.say("served: by clients, in turns with the ideal")
            curve, ideal = _curve(setting, server, jpeg, seconds)
            knee = knee_of(curve["grpc"])
            setting.say("served: under load")
            overload = _overload(server, jpeg, knee, seconds)
            setting.say("served: pre- and postprocessing in the client")
            rival = measure_client_side(setting, server, jpeg, knee["clients"], seconds)
            return {
                "cold_start": cold,
                "by_clients": curve,
                "ideal_images_per_s": ideal,
                "share_of_ideal": round(
                    max(step["images_per_s"] for step in curve["grpc"]) / max(ideal.values()), 3
                ),
                "one_client": _one_client(setting, server, jpeg, seconds),
                "knee": knee,
                "overload": overload,
                "client_side": rival,
                "memory_after": {**_memory(server), "images": _images_so_far(server)},
            }


def _curve(
    setting: Setting, server: EmbeddedServer, jpeg: bytes, seconds: float
) -> tuple[dict[str, Any], dict[str, float]]:
    """Rate and latency by clients and protocol, and the ideal's rate in between."""
    curve: dict[str, list[dict[str, Any]]] = {"grpc": [], "http": []}
    ideals: list[dict[str, float]] = []
    with grpc_stub(server.grpc_url) as stub:
        asks = {
            "grpc": grpc_asks(stub, image_request(jpeg)),
            "http": http_asks(server.http_url, jpeg),
        }
        for clients in CLIENTS:
            for protocol, make_ask in asks.items():
                curve[protocol].append(closed_loop(make_ask, clients, seconds).summary())
            if clients in CLIENTS[1::2]:
                ideals.append(ideal_images_per_s(setting, jpeg, PRECISION, seconds))
    ideal = {name: max(each[name] for each in ideals) for name in ideals[0]}
    return curve, ideal


def _one_client(
    setting: Setting, server: EmbeddedServer, jpeg: bytes, seconds: float
) -> dict[str, Any]:
    """What the server adds to its steps for a client that is alone."""
    steps = steps_ms(setting, jpeg, PRECISION)
    with grpc_stub(server.grpc_url) as stub:
        before = _spent(stub)
        load = closed_loop(grpc_asks(stub, image_request(jpeg)), 1, seconds).summary()
        after = _spent(stub)
    latency = load["latency_ms"]["median"]
    in_all = sum(step["median"] for step in steps.values())
    return {
        "steps_ms": steps,
        "latency_ms": latency,
        "added_ms": round(latency - in_all, 2),
        "models_ms": {
            name: {
                stage: round((spent[stage][1] - ns) / max(spent[stage][0] - count, 1) / 1e6, 3)
                for stage, (count, ns) in before[name].items()
            }
            for name, spent in after.items()
        },
    }


def _spent(stub: Any) -> dict[str, dict[str, tuple[int, int]]]:
    """Triton's statistics: how often and how many nanoseconds, by model and stage."""
    answer = stub.ModelStatistics(service_pb2.ModelStatisticsRequest())
    return {
        model.name: {
            stage: (spent.count, spent.ns)
            for stage in _STAGES
            for spent in (getattr(model.inference_stats, stage),)
        }
        for model in answer.model_stats
    }


def _overload(
    server: EmbeddedServer, jpeg: bytes, knee: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """At several times the knee's clients, the knee measured again right before."""
    with grpc_stub(server.grpc_url) as stub:
        make_ask = grpc_asks(stub, image_request(jpeg))
        at_knee = closed_loop(make_ask, knee["clients"], seconds).summary()
        above = closed_loop(make_ask, _OVERLOAD * knee["clients"], seconds).summary()
    share = above["images_per_s"] / at_knee["images_per_s"]
    return {"at_knee": at_knee, "above": above, "share_of_peak": round(share, 3)}


def _images_so_far(server: EmbeddedServer) -> int:
    with grpc_stub(server.grpc_url) as stub:
        return _spent(stub)[ENSEMBLE]["compute_infer"][0]


def _memory(server: EmbeddedServer) -> dict[str, Any]:
    """Megabytes of all the server's processes: RSS, and with shared pages counted once (PSS)."""
    rss, pss = 0, 0
    for process in _processes(server):
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            rss, pss = rss + memory.rss, pss + memory.pss
    return {"rss_mb": round(rss / 1e6), "pss_mb": round(pss / 1e6)}


def _processes(server: EmbeddedServer) -> Iterator[psutil.Process]:
    root = psutil.Process(server.pid)
    yield root
    yield from root.children(recursive=True)
