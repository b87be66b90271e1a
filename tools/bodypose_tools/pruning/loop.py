"""The loop of pruning and retraining: it stops at the limit, and continues where it was stopped.

A run's folder holds `pareto.json`, which names what is done, and a folder per step with the pruned
network, its retraining, and its graph. Every file is whole or absent, so a run that was killed at
any moment is continued by starting it again: a step that is not in `pareto.json` repeats what it
has no whole file of, and its retraining goes on from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras

from bodypose_tools.data.photos import packaged_images
from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.files.artifacts import Artifact, MissingArtifactError, StaleArtifactError
from bodypose_tools.files.figures import can_draw
from bodypose_tools.files.json_records import write_record
from bodypose_tools.networks.decoding import DecodeSettings
from bodypose_tools.networks.keras_files import load_network
from bodypose_tools.runtimes.network_speed import speed_up_record
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.training.checkpoint import STATE_FILE
from bodypose_tools.training.setup import training_records
from bodypose_tools.training.spec import without_removed_keys
from bodypose_tools.training.train import check_data, train
from pose_runtime.errors import PoseError
from pose_runtime.extras import install_line

from .channel_graph import trace_channels
from .pareto import UNPRUNED, Point, TradeOff, read_trade_off
from .pareto_picture import draw_trade_off
from .plan import Limits, PruningPlan, Work
from .prune import prune
from .settings import Cost, Importance, PruneError
from .taylor import taylor_stats

Say = Callable[[str], None]

_RESULT = "pareto.json"


class OptimizeError(PoseError):
    """The loop cannot start or go on; the message names what to change."""


def optimize(
    plan: PruningPlan,
    model: Path,
    folder: Path,
    limits: Limits,
    say: Say,
    *,
    check_images: bool = False,
) -> TradeOff:
    """Prune, retrain, evaluate, export and time, step by step, until AP drops too far.

    Args:
        plan: how each step prunes and trains.
        model: the unpruned `.keras` file.
        folder: of the run; holds `pareto.json`, `pareto.md` and `pareto.png` afterwards.
        limits: when to stop.
        say: gets a line for each thing done.
        check_images: decode every image before the first network runs, and before each retraining.

    Returns:
        The trade-off; not `finished` when the time was up first.

    Raises:
        OptimizeError: the folder holds another run, or this machine cannot do its half.
        PruneError: not even the first step is possible.
    """
    if limits.work is not Work.TRAINING and keras.backend.backend() != "tensorflow":
        raise OptimizeError(
            f"export: expected Keras on TensorFlow, got {keras.backend.backend()}; add --no-export"
            " here, and run the same command with --no-train where TensorFlow is"
        )
    run = _Run(plan, model, folder, limits, say, check_images)
    run.complete()
    try:
        while limits.work is not Work.TIMING and run.needs_step():
            run.step()
            run.complete()
        if limits.work is not Work.TIMING:
            run.finish()
    except _OutOfTime:
        say("the time is up; the same command continues from here")
    run.draw()
    return run.trade_off


class _OutOfTime(Exception):
    """The next checkpoint would come too late."""


class _Run:
    def __init__(
        self,
        plan: PruningPlan,
        model: Path,
        folder: Path,
        limits: Limits,
        say: Say,
        check_images: bool,
    ) -> None:
        self._plan, self._model, self._folder, self._limits = plan, model, folder, limits
        self._say, self._check_images = say, check_images
        self._clock = _Clock(limits.seconds, say)
        data = plan.training.dataloader.dataset_config
        if data.val_data is None:
            raise OptimizeError("val_data: expected a split to measure AP on, got none in the spec")
        self._annotations = data.root_data_path / data.val_data.annotation_path
        self._images = data.root_data_path / data.val_data.images_root_dir_path
        self._exhausted = False
        if limits.work is not Work.TIMING:
            check_data(plan.training, check_images)
        self.trade_off = self._opened()

    def _opened(self) -> TradeOff:
        """The run of the folder, or a new one with the unpruned network."""
        whole, result = Artifact.open(self._model), self._folder / _RESULT
        settings = self._plan.to_json()
        if not result.exists():
            name = load_network(self._model)[0].name.replace("_", "-")
            split = self._annotations.name
            new = TradeOff(name, split, settings, self._limits.max_ap_drop)
            self._say(f"{UNPRUNED}: {self._model}")
            return self._kept(new.with_point(self._measured(UNPRUNED, self._model)))
        known = read_trade_off(result)
        if known.unpruned.sha256 != whole.sha256:
            raise OptimizeError(
                f"{self._folder}: expected an empty folder or a run of {self._model}, got a run of"
                f" {known.unpruned.model}; choose another -r"
            )
        training, _ = without_removed_keys(known.settings.get("training"))
        before_now = _differences({**known.settings, "training": training}, settings)
        for path, before, now in before_now:
            raise OptimizeError(
                f"{self._folder}: expected {path} to stay {before}, got {now};"
                " choose another -r, or start with what this run was started with"
            )
        return self._kept(replace(known, max_ap_drop=self._limits.max_ap_drop))

    def needs_step(self) -> bool:
        points = self.trade_off.points
        return (
            not self._exhausted
            and len(points) <= self._plan.steps
            and self.trade_off.allows(points[-1])
        )

    def step(self) -> None:
        """Prune the last network, and retrain what is left."""
        self._kept(replace(self.trade_off, finished=False))
        self._clock.check()
        number, parent = len(self.trade_off.points), self.trade_off.points[-1]
        name = f"step_{number}"
        folder = self._folder / name
        pruned = _made(folder / "pruned.keras", parent.sha256)
        if pruned is None:
            try:
                pruned = self._pruned(number, parent, folder / "pruned.keras")
            except PruneError as error:
                if number == 1:
                    raise
                self._say(f"{name}: {error}")
                self._exhausted = True
                return
        spec = self._plan.training.model_copy(update={"pretrained_weights": pruned.path})
        watched = self._clock.watching(folder / "run" / STATE_FILE, name)
        best = train(
            spec,
            folder / "run",
            resume=True,
            say=watched,
            stage="retrain",
            check_images=self._check_images,
        )
        keras.mixed_precision.set_dtype_policy("float32")  # training sets the spec's
        point = self._measured(name, best.path)
        self._kept(self.trade_off.with_point(point))
        self._say(
            f"{name}: {self.trade_off.macs_share(point):.1%} of the MACs, AP {point.ap:.4f},"
            f" drop {self.trade_off.drop(point):+.4f} of at most {self._limits.max_ap_drop:g}"
        )

    def complete(self) -> None:
        """Export and time the points that are not yet, where this machine does that."""
        if self._limits.work is Work.TRAINING:
            return
        whole = self._exported(self.trade_off.unpruned)
        for point in self.trade_off.points[1:]:
            if point.speed is not None:
                continue
            graph = self._exported(point)
            pixels = packaged_images(load_network(self._path(point))[1].network_hw)[:1]
            speed = speed_up_record(whole, graph, pixels, self._limits.rounds, self._limits.threads)
            point = replace(point, speed=speed)
            self._kept(self.trade_off.with_point(point))
            ratios = (f"{name} {point.times_as_fast(name):.2f}" for name in speed["runtimes"])
            self._say(f"{point.name}: times as fast as {UNPRUNED}: {', '.join(ratios)}")

    def finish(self) -> None:
        self._kept(replace(self.trade_off, finished=True))
        self._say("finished")

    def draw(self) -> None:
        if can_draw():
            draw_trade_off(self.trade_off, self._folder / "pareto.png")
        else:
            self._say(f"no pareto.png: expected matplotlib, got none; run {install_line('train')}")

    def _kept(self, trade_off: TradeOff) -> TradeOff:
        self.trade_off = trade_off
        write_record(self._folder / _RESULT, trade_off.to_json())
        trade_off.write_table(self._folder / "pareto.md")
        return trade_off

    def _path(self, point: Point) -> Path:
        return self._model if point.name == UNPRUNED else self._folder / point.model

    def _pruned(self, number: int, parent: Point, out: Path) -> Artifact:
        unpruned = self.trade_off.unpruned
        cost = self._plan.target.cost
        sizes = [
            point.macs if cost is Cost.MACS else point.parameters for point in (unpruned, parent)
        ]
        measured = None
        if self._plan.pruning.importance is Importance.TAYLOR:
            batches = self._plan.taylor_batches
            measured = partial(
                taylor_stats,
                spec=self._plan.training,
                records=training_records(self._plan.training, check_images=self._check_images),
                num_batches=batches,
            )
        goal = self._plan.goal(number, *sizes)
        self._say(f"step_{number}: pruning to {goal.share:.1%} of {parent.name}'s {cost}")
        prune(self._path(parent), self._plan.pruning, goal, out=out, measured=measured)
        return Artifact.open(out)

    def _measured(self, name: str, model: Path) -> Point:
        place = model.name if name == UNPRUNED else model.relative_to(self._folder).as_posix()
        sizes = network_sizes(model)
        ap = network_ap(model, self._annotations, self._images)
        return Point(name, place, Artifact.open(model).sha256, *sizes, ap)

    def _exported(self, point: Point) -> Path:
        from bodypose_tools.export.onnx_from_keras import export_onnx  # needs TensorFlow

        out = self._folder / point.name / "model.onnx"
        if _made(out, point.sha256) is None:
            decode = DecodeSettings()
            model = self._path(point)
            export_onnx(model, out, network_hw=None, decode=decode, samples=packaged_images)
            self._say(f"{point.name}: exported {out}")
        return out


def network_sizes(model: Path) -> tuple[int, int, int]:
    """Parameters, MACs for one image, and bytes of a `.keras` file."""
    network, pipeline, _ = load_network(model)
    graph = trace_channels(network, pipeline.network_hw)
    everything = graph.keep_all()
    return graph.count_params(everything), graph.count_macs(everything), model.stat().st_size


def network_ap(model: Path, annotations: Path, images: Path) -> float:
    """AP of a model file on a split, 0..1."""
    predict, spec, _ = open_predictor(model)
    return evaluate_model(predict, spec, annotations, images).ap


class _Clock:
    """Ends a start of the loop when its time is up, but not before one more checkpoint."""

    def __init__(self, seconds: float | None, say: Say) -> None:
        self._say = say
        self._end = float("inf") if seconds is None else time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise _OutOfTime

    def watching(self, checkpoint: Path, name: str) -> Say:
        """`say` for a training; it raises `_OutOfTime` after the last checkpoint in time."""
        last: float | None = None
        seen = _changed_ns(checkpoint)

        def watched(line: str) -> None:
            nonlocal last, seen
            self._say(f"{name}: {line}")
            if (changed := _changed_ns(checkpoint)) == seen:
                return
            now = time.monotonic()
            until_next = 0.0 if last is None else now - last  # the first had to compile, too
            if now + until_next > self._end:
                raise _OutOfTime
            last, seen = now, changed

        return watched


def _changed_ns(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _made(path: Path, parent: str) -> Artifact | None:
    """The file that was made of `parent`, a sha256; None when it is absent, or not whole."""
    try:
        made = Artifact.open(path)
    except (MissingArtifactError, StaleArtifactError):
        return None
    return made if made.parents[:1] == (parent,) else None


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Path, value and value of whatever is not the same in two settings."""
    for key in dict.fromkeys([*before, *now]):
        one, two = before.get(key), now.get(key)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            yield from ((f"{key}.{path}", a, b) for path, a, b in _differences(one, two))
        elif one != two:
            yield key, one, two
