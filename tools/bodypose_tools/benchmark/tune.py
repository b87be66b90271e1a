"""The search for the fastest serving settings, measured on the real embedded server."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.files.figures import png_axes
from bodypose_tools.files.json_records import write_record
from bodypose_tools.repository.build import built_for
from bodypose_tools.repository.pbtxt import STEPS
from bodypose_tools.repository.retuning import retune
from bodypose_tools.repository.tuning import UNTUNED, Tuning
from bodypose_tools.results.machine import machine
from bodypose_tools.runtimes.settings import Device
from bodypose_tools.server.load import (
    Curve,
    closed_loop,
    grpc_asks,
    grpc_stub,
    image_request,
    knee_of,
)
from pose_runtime.errors import PoseError

from .settings import Objective

CLIENTS = (1, 2, 4, 8, 16)
_CLIENTS_OF_A_GPU = (1, 16, 64, 128)
_LOAD_TIMEOUT_S = 300.0  # a GPU's network compiles for minutes
_LIVE_TIMEOUT_S = 10.0
_GAIN = 1.02  # a setting must be better by this factor, which is more than noise


class TuneError(PoseError):
    """No setting stays within the limit."""


@dataclass(frozen=True, slots=True)
class Goal:
    """The objective, and the largest p99 latency that counts, in milliseconds."""

    objective: Objective
    max_p99_ms: float = float("inf")

    def score(self, curve: Curve) -> float:
        """A number that is higher for a better curve; 0 when no step stays within the limit."""
        within = [step for step in curve if step["latency_ms"]["p99"] <= self.max_p99_ms]
        if not within:
            return 0.0
        if self.objective is Objective.THROUGHPUT:
            return float(max(step["images_per_s"] for step in within))
        return 1000 / float(within[0]["latency_ms"]["median"])


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One setting, with its curve and score."""

    tuning: Tuning
    curve: Curve
    score: float

    @property
    def knee(self) -> dict[str, Any]:
        """The step with the fewest clients that has nearly the best rate."""
        return knee_of(self.curve)


def search(
    measure: Callable[[Tuning], Curve],
    goal: Goal,
    cores: int,
    report: Callable[[Trial], None],
    start: Tuning = UNTUNED,
) -> list[Trial]:
    """Try several values of one setting after another, each from the best setting so far.

    Args:
        measure: returns the curve of a setting.
        goal: scores a curve.
        cores: number that the server may use.
        report: gets each trial.
        start: the first setting; fields that are not searched keep its values.

    Returns:
        Every trial, the best first.

    Raises:
        TuneError: no setting stays within the limit.
    """
    best = Trial(start, curve := measure(start), goal.score(curve))
    trials = [best]
    report(best)
    for choices in _choices(cores, start):
        for change in choices:
            tuning = replace(best.tuning, **change)
            if any(trial.tuning == tuning for trial in trials):
                continue
            curve = measure(tuning)
            trials.append(Trial(tuning, curve, goal.score(curve)))
            report(trials[-1])
        leader = max(trials, key=lambda trial: trial.score)
        if leader.score > _GAIN * best.score:
            best = leader
    if best.score == 0:
        least = min(step["latency_ms"]["p99"] for trial in trials for step in trial.curve)
        raise TuneError(
            f"expected a p99 of at most {goal.max_p99_ms:g} ms, the least was {least:g} ms; allow"
            " more with --max-p99-ms, or serve a smaller network"
        )
    return [best, *(trial for trial in trials if trial is not best)]


def _choices(cores: int, start: Tuning) -> Iterator[list[dict[str, Any]]]:
    """Values to try of fields that depend on each other; never more threads than cores."""
    counts = [count for count in (2, 4, 8, 12) if count <= cores]
    if start.device == Device.CUDA:
        yield [{"network_instances": count} for count in (1, 2, 3)]
        yield [
            {"network_batch": size, "queue_delay_us": delay}
            for size, delay in ((16, 0), (32, 0), (64, 0), (32, 1000))
        ]
    else:
        yield [{"network_instances": count, "threads": cores // count} for count in counts]
        yield [
            {"network_batch": size, "queue_delay_us": delay}
            for size, delay in ((2, 0), (4, 0), (8, 0), (4, 2000))
        ]
    yield [{"preprocess_instances": count} for count in counts]
    if start.device == Device.CUDA:
        yield [{"grouping_instances": count} for count in counts]
        yield [{"requests_at_once": count} for count in (1, 8)]


def clients_for(start: Tuning) -> tuple[int, ...]:
    """Numbers of clients to measure with: a GPU has more under way."""
    return _CLIENTS_OF_A_GPU if start.device == Device.CUDA else CLIENTS


def measured_curve(model: Path, tuning: Tuning, seconds: float) -> Curve:
    """The curve of the embedded server with these settings: gRPC, one photo of 640 x 480."""
    from bodypose_tools.repository.build import build_repository
    from bodypose_tools.repository.targets import tuned
    from bodypose_tools.server.embedded import embedded_server

    with tempfile.TemporaryDirectory() as folder:
        build_repository(model, Path(folder) / "repository", tuned(tuning))
        with embedded_server(Path(folder) / "repository") as server:
            return _curve(server.grpc_url, clients_for(tuning), seconds)


def _curve(url: str, clients: Sequence[int], seconds: float) -> Curve:
    from bodypose_tools.data.photos import photo_jpeg

    with grpc_stub(url) as stub:
        make_ask = grpc_asks(stub, image_request(photo_jpeg(640, 480)))
        return [closed_loop(make_ask, count, seconds).summary() for count in clients]


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that follows its repository, which this process may write.

    url: its gRPC endpoint, `host:port`.
    repository: the folder that it serves, with --model-control-mode poll.
    """

    url: str
    repository: Path

    def curve(self, tuning: Tuning, seconds: float) -> Curve:
        """The curve once the server has loaded these settings.

        Raises:
            TuneError: it does not load them.
        """
        self.apply(tuning)
        return _curve(self.url, clients_for(tuning), seconds)

    def apply(self, tuning: Tuning) -> None:
        """Write the settings, and wait until the server has loaded them.

        Raises:
            TuneError: it does not, or it has ended.
        """
        wanted = {
            name: _settled(config) for name, config in retune(self.repository, tuning).items()
        }
        deadline = time.monotonic() + _LOAD_TIMEOUT_S
        with grpc_stub(self.url) as stub:
            while (got := _loaded(stub)) != wanted:
                self._expect_answer(stub)
                if time.monotonic() > deadline:
                    raise TuneError(
                        f"{self.url}: expected the server to load the settings of"
                        f" {self.repository} within {_LOAD_TIMEOUT_S:g} s, got other ones"
                        f" ({got}); it follows with --model-control-mode poll only, and its log"
                        " says what it cannot load"
                    )
                time.sleep(0.2)

    def _expect_answer(self, stub: Any) -> None:
        try:
            stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=_LIVE_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                return  # busy
            raise TuneError(
                f"{self.url}: expected a running server, got no answer; start one with `tools serve"
                f" {self.repository} --model-control-mode poll`"
            ) from error

    def description(self) -> str:
        """The server and its network, in words."""
        with grpc_stub(self.url) as stub:
            server = stub.ServerMetadata(service_pb2.ServerMetadataRequest())
        built = built_for(self.repository)
        return f"Triton {server.version} at {self.url}, --target {built['target']}"


def _loaded(stub: Any) -> dict[str, Any]:
    """What the server runs now; nothing of models that are not ready."""
    found = {}
    for name in STEPS:
        with contextlib.suppress(grpc.RpcError):
            asked = service_pb2.ModelConfigRequest(name=name)
            found[name] = _settled(stub.ModelConfig(asked).config)
    return found


def _settled(config: Any) -> tuple[Any, ...]:
    """What settings decide of a config, which Triton completes when it loads it."""
    return (
        config.max_batch_size,
        sum(group.count for group in config.instance_group),
        config.HasField("dynamic_batching"),
        config.dynamic_batching.max_queue_delay_microseconds,
        sorted((name, value.string_value) for name, value in config.parameters.items()),
    )


def write_tuning(
    path: Path, trials: list[Trial], model: Path | None, goal: Goal, measured_on: str
) -> Path:
    """Write the best trial's settings to `path`, and a record of all trials beside it.

    Args:
        path: settings file.
        trials: of `search`.
        model: ONNX file that was served; None: a running server's.
        goal: of the search.
        measured_on: the server, in words.

    Returns:
        The file of all trials.
    """
    parents = [Artifact.open(model)] if model else []
    with atomic_path(path) as temporary:
        temporary.write_text(replace(trials[0].tuning, measured_on=measured_on).to_json())
    Artifact.record(path, "tune", *parents, settings={"objective": str(goal.objective)})
    record = {
        "schema": "bodypose-tune/1",
        "objective": str(goal.objective),
        "max_p99_ms": None if goal.max_p99_ms == float("inf") else goal.max_p99_ms,
        "machine": machine(),
        "measured_on": measured_on,
        "trials": [
            {
                "settings": asdict(trial.tuning),
                "score": round(trial.score, 3),
                "knee_clients": trial.knee["clients"],
                "curve": list(trial.curve),
            }
            for trial in trials
        ],
    }
    everything = path.with_suffix(".trials.json")
    write_record(everything, record)
    return everything


def draw_curve(path: Path, trials: list[Trial]) -> None:
    """Draw throughput against median latency: the best trial with its knee, and all others."""
    with png_axes(path, (6, 4)) as axes:
        for trial in reversed(trials):
            rates = [step["images_per_s"] for step in trial.curve]
            latencies = [step["latency_ms"]["median"] for step in trial.curve]
            won = trial is trials[0]
            style = {"color": "tab:blue", "marker": "o"} if won else {"color": "0.8"}
            axes.plot(rates, latencies, **style, label="best" if won else None)
        knee = trials[0].knee
        label = f"knee, clients: {knee['clients']}"
        axes.plot(knee["images_per_s"], knee["latency_ms"]["median"], "k*", ms=14, label=label)
        axes.set(xlabel="images/s", ylabel="median latency, ms", xlim=(0, None), ylim=(0, None))
        axes.legend()
