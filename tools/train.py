"""Owns training: a spec and a COCO-format set become the best checkpoint and its record."""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
from keras import ops
from rich.console import Console
from rich.progress import Progress

from client.coco_eval import CocoMetrics
from pose_runtime.errors import PoseError
from pose_runtime.spec import PipelineSpec

from .artifacts import Artifact, atomic_path, sha256_of
from .config import OptimizerConfig, Split, TrainSpec
from .dataset import ImageRecord, read_coco
from .evaluate import evaluate_model, network_predictor
from .field_training import DistilledTraining, FieldTraining
from .import_backbone import load_backbone
from .keras_models import load_network, save_network
from .labels import LabelSettings
from .network import build_network, regularize, with_dtype_policy
from .samples import SampleSettings, SampleStream

Say = Callable[[str], None]

_CHECKPOINT = "checkpoint.weights.h5"
_STATE = "checkpoint.json"
_LOG = "log.csv"
_BEST = "best.keras"


class TrainingError(PoseError):
    """Training cannot start or go on; the message says what to change."""


def train(
    spec: TrainSpec, results_dir: Path, *, resume: bool, say: Say, stage: str = "train"
) -> Artifact:
    """Train until `num_epoch`, keeping the checkpoint with the best AP on the validation split.

    Writes into `results_dir`: best.keras (moving-average weights, float32 graph) with its record,
    log.csv, spec.json, and a resumable checkpoint every `checkpoint_n_epoch`.

    `stage` is what the record says, "retrain" after pruning.

    Raises:
        TrainingError: the folder already holds a run and `resume` is off, or the loss is NaN.
        DatasetError, ConfigError, BackboneError: an input is missing or does not fit.
    """
    if (results_dir / _STATE).exists() and not resume:
        raise TrainingError(
            f"{results_dir}: expected an empty folder, got a run; add --resume or choose another -r"
        )
    results_dir.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(spec.random_seed)
    keras.mixed_precision.set_dtype_policy(spec.mixed_precision)
    network, parents = _initial_network(spec)
    stream = training_stream(spec)
    model, teachers = _trained_model(spec, network)
    model.compile(
        optimizer=_optimizer(spec.optimizer, spec.num_epoch * stream.steps_per_epoch),
        jit_compile="auto" if keras.backend.backend() == "tensorflow" else True,
    )
    model.optimizer.build(model.trainable_variables)
    state = _restore(model, results_dir) if resume else _State()
    (results_dir / "spec.json").write_text(spec.model_dump_json(indent=2) + "\n")
    checkpoint = _Checkpoint(spec, results_dir, state)
    keeper = _Keeper(
        spec, network, (*parents, *teachers), checkpoint, results_dir, state, say, stage
    )
    say(f"{stream.steps_per_epoch} steps of {spec.dataloader.batch_size} images an epoch")
    with stream:
        model.fit(
            stream.batches(state.epoch),
            steps_per_epoch=stream.steps_per_epoch,
            initial_epoch=state.epoch,
            epochs=spec.num_epoch,
            verbose=0,
            shuffle=False,  # the stream has its own, seeded order
            callbacks=[
                keras.callbacks.TerminateOnNaN(),
                checkpoint,
                _SwapToAverage(spec),
                keeper,
                *([_Bar(spec, state)] if sys.stderr.isatty() else []),
            ],
        )
    if keeper.best is None:
        raise TrainingError("loss: expected a number, got NaN; lower base_learning_rate")
    return keeper.best


class SoftstartAnnealing(keras.optimizers.schedules.LearningRateSchedule):
    """TAO's schedule: log-linear ramp from min to base, flat, log-linear back to min."""

    def __init__(
        self, base: float, minimum: float, soft_start: float, annealing: float, steps: int
    ) -> None:
        super().__init__()
        self.base, self.minimum, self.steps = base, minimum, steps
        self.soft_start, self.annealing = soft_start, annealing

    def __call__(self, step: Any) -> Any:
        done = ops.cast(step, "float32") / self.steps
        rising = done / self.soft_start
        falling = (1 - done) / (1 - self.annealing)
        share = ops.clip(ops.minimum(rising, falling), 0.0, 1.0)
        return self.minimum * ops.exp(share * math.log(self.base / self.minimum))

    def get_config(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "minimum": self.minimum,
            "soft_start": self.soft_start,
            "annealing": self.annealing,
            "steps": self.steps,
        }


class MultipliedAdamW(keras.optimizers.AdamW):
    """AdamW whose learning rate is multiplied for the layers named in `multipliers`."""

    multipliers: dict[str, float]

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        self._multiplier_of = [self._multiplier(variable.path) for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        multiplier = self._multiplier_of[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * multiplier)

    def _multiplier(self, path: str) -> float:
        layer = path.split("/")[-2] if "/" in path else path
        matches = (value for key, value in self.multipliers.items() if layer.startswith(key))
        return next(matches, 1.0)


def _optimizer(config: OptimizerConfig, steps: int) -> keras.optimizers.Optimizer:
    schedule = SoftstartAnnealing(
        config.learning_rate_schedule.base_learning_rate,
        config.learning_rate_schedule.min_learning_rate,
        config.learning_rate_schedule.soft_start,
        config.learning_rate_schedule.annealing,
        steps,
    )
    common: dict[str, Any] = {"global_clipnorm": config.clip_norm}
    if config.ema_momentum:
        common |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    if config.name == "sgd":
        return keras.optimizers.SGD(schedule, momentum=config.momentum, **common)
    optimizer = MultipliedAdamW(schedule, weight_decay=config.weight_decay, **common)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.multipliers = config.grad_weights_dict
    return optimizer


def _initial_network(spec: TrainSpec) -> tuple[keras.Model, tuple[Artifact, ...]]:
    """The network to train, and the files that its weights come from."""
    weights = spec.pretrained_weights
    if weights is None:
        return build_network(spec.model, spec.skeleton), ()
    artifact = Artifact.open(weights)
    if spec.load_graph:
        network = with_dtype_policy(_loaded(weights, spec), spec.mixed_precision)
        if "kernel_regularization_factor" in spec.model.model_fields_set:
            regularize(network, spec.model)  # else the file's own stay
        return network, (artifact,)
    network = build_network(spec.model, spec.skeleton)
    if weights.suffix == ".npz":
        load_backbone(network, weights)
    else:
        network.set_weights(load_network(weights)[0].get_weights())
    return network, (artifact,)


def _trained_model(
    spec: TrainSpec, network: keras.Model
) -> tuple[FieldTraining, tuple[Artifact, ...]]:
    """The network with its loss, and the file of the teacher that has a part in it."""
    if spec.distillation is None:
        return FieldTraining(network), ()
    path = spec.distillation.teacher
    teacher = with_dtype_policy(_loaded(path, spec), spec.mixed_precision)
    return DistilledTraining(network, teacher, spec.distillation.weight), (Artifact.open(path),)


def _loaded(path: Path, spec: TrainSpec) -> keras.Model:
    network, pipeline, _ = load_network(path)
    if pipeline.skeleton != spec.skeleton:
        raise TrainingError(
            f"{path}: expected a network of the spec's skeleton {spec.skeleton.name},"
            f" got one of {pipeline.skeleton.name}"
        )
    return network


def _records(spec: TrainSpec, split: Split) -> list[ImageRecord]:
    root = spec.dataloader.dataset_config.root_data_path
    return read_coco(root / split.annotation_path, root / split.images_root_dir_path, spec.skeleton)


def training_stream(spec: TrainSpec) -> SampleStream:
    loader = spec.dataloader
    settings = SampleSettings(
        spec.skeleton,
        (loader.image_config.height, loader.image_config.width),
        LabelSettings(**loader.label_processor_config.model_dump()),
        loader.augmentation_config,
    )
    records = _records(spec, loader.dataset_config.train_data)
    return SampleStream(
        [record for record in records if len(record.joints)],
        settings,
        batch_size=loader.batch_size,
        seed=spec.random_seed,
        workers=loader.workers,
    )


@dataclass
class _State:
    """What a resumed run must know besides the weights."""

    epoch: int = 0  # epochs done
    best_ap: float = -1.0
    rows: list[dict[str, Any]] = field(default_factory=list)  # of log.csv


def _restore(model: keras.Model, results_dir: Path) -> _State:
    state_file = results_dir / _STATE
    if not state_file.exists():
        return _State()
    raw = json.loads(state_file.read_text())
    model.load_weights(results_dir / raw["weights"])
    return _State(raw["epoch"], raw["best_ap"], raw["rows"])


class _Checkpoint(keras.callbacks.Callback):
    """Writes all that `_restore` needs; two files take turns, so that one is always whole.

    The weights are saved before the moving average takes their place for validation, the state
    that names them by `commit` when the epoch's validation is in it.
    """

    def __init__(self, spec: TrainSpec, results_dir: Path, state: _State) -> None:
        super().__init__()
        self._spec, self._folder, self._state = spec, results_dir, state
        self._saved: str | None = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        done = epoch + 1
        if done % self._spec.checkpoint_n_epoch == 0 or done == self._spec.num_epoch:
            self._saved = f"{done // self._spec.checkpoint_n_epoch % 2}.{_CHECKPOINT}"
            self.model.save_weights(self._folder / self._saved)

    def commit(self) -> None:
        if self._saved is not None:
            with atomic_path(self._folder / _STATE) as temporary:
                temporary.write_text(json.dumps(asdict(self._state) | {"weights": self._saved}))
            self._saved = None


class _SwapToAverage(keras.callbacks.SwapEMAWeights):
    """The moving average takes the network's place while an epoch's validation runs."""

    def __init__(self, spec: TrainSpec) -> None:
        super().__init__(swap_on_epoch=True)
        self._spec = spec
        self._swapped = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._spec.optimizer.ema_momentum and _validates(self._spec, epoch):
            super().on_epoch_end(epoch, logs)
            self._swapped = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._swapped:
            super().on_epoch_begin(epoch, logs)
            self._swapped = False


class _Keeper(keras.callbacks.Callback):
    """Validates, keeps the best network, logs, and says how long it will take."""

    def __init__(
        self,
        spec: TrainSpec,
        network: keras.Model,
        parents: tuple[Artifact, ...],
        checkpoint: _Checkpoint,
        results_dir: Path,
        state: _State,
        say: Say,
        stage: str,
    ) -> None:
        super().__init__()
        self._spec, self._network, self._parents, self._stage = spec, network, parents, stage
        self._checkpoint, self._folder, self._state = checkpoint, results_dir, state
        self._say = say
        loader = spec.dataloader
        self._pipeline = PipelineSpec(
            skeleton=spec.skeleton,
            network_hw=(loader.image_config.height, loader.image_config.width),
        )
        self._val = loader.dataset_config.val_data
        root, train_data = loader.dataset_config.root_data_path, loader.dataset_config.train_data
        self._data = {
            "train_annotations_sha256": sha256_of(root / train_data.annotation_path),
            "initial_weights": [parent.settings for parent in parents],
        }
        self._predict = network_predictor(network, self._pipeline)
        self._started = time.monotonic()
        self._first_epoch = state.epoch
        best = results_dir / _BEST
        self.best = Artifact.open(best) if state.epoch and best.exists() else None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            return
        row = {
            "epoch": epoch + 1,
            "loss": loss,
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(time.monotonic() - self._started, 1),
            "AP": "",
        }
        if _validates(self._spec, epoch):
            metrics = self._validate()
            row["AP"] = "" if metrics is None else round(metrics.ap, 4)
            if metrics is None or self._state.best_ap < metrics.ap:
                self._save(epoch, row, metrics)
        self._state.epoch = epoch + 1
        self._state.rows.append(row)
        self._write_log()
        self._checkpoint.commit()
        self._speak(row)

    def _validate(self) -> CocoMetrics | None:
        if self._val is None:
            return None
        root = self._spec.dataloader.dataset_config.root_data_path
        return evaluate_model(
            self._predict,
            self._pipeline,
            root / self._val.annotation_path,
            root / self._val.images_root_dir_path,
        )

    def _save(self, epoch: int, row: dict[str, Any], metrics: CocoMetrics | None) -> None:
        self._state.best_ap = -1.0 if metrics is None else metrics.ap
        self.best = save_network(
            with_dtype_policy(self._network, "float32"),
            self._folder / _BEST,
            self._stage,
            self._pipeline,
            *self._parents,
            settings={
                "epoch": epoch + 1,
                "loss": row["loss"],
                "val": None if metrics is None else metrics.to_json(),
                "data": self._data,
                "spec": json.loads(self._spec.model_dump_json()),
            },
        )

    def _write_log(self) -> None:
        with (
            atomic_path(self._folder / _LOG) as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(self._state.rows[0]))
            writer.writeheader()
            writer.writerows(self._state.rows)

    def _speak(self, row: dict[str, Any]) -> None:
        done = row["epoch"] - self._first_epoch
        left = (self._spec.num_epoch - row["epoch"]) * row["seconds"] / max(done, 1)
        found = f"  AP {row['AP']:.4f} (best {self._state.best_ap:.4f})" if row["AP"] != "" else ""
        self._say(
            f"epoch {row['epoch']}/{self._spec.num_epoch}  loss {row['loss']:.2f}{found}"
            f"  {row['seconds']:.0f} s, {left:.0f} s to go"
        )


class _Bar(keras.callbacks.Callback):
    """A bar over all steps of the run, for a terminal."""

    def __init__(self, spec: TrainSpec, state: _State) -> None:
        super().__init__()
        self._epochs, self._done = spec.num_epoch, state.epoch
        self._progress = Progress(
            *Progress.get_default_columns(), console=Console(stderr=True), transient=True
        )

    def on_train_begin(self, logs: Any = None) -> None:
        steps = self.params["steps"]
        self._task = self._progress.add_task(
            "training", total=self._epochs * steps, completed=self._done * steps
        )
        self._progress.start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._progress.advance(self._task)

    def on_train_end(self, logs: Any = None) -> None:
        self._progress.stop()


def _validates(spec: TrainSpec, epoch: int) -> bool:
    return (epoch + 1) % spec.validation_every_n_epoch == 0 or epoch + 1 == spec.num_epoch
