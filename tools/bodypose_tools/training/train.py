"""Owns training: a spec and a COCO-format set become the best checkpoint and its record."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import ops

from bodypose_client.scoring.coco_eval import CocoMetrics
from bodypose_tools.data.annotation_check import checked_coco, summary, write_problems
from bodypose_tools.data.coco import DatasetError, ImageRecord, read_coco
from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.files.artifacts import Artifact, StaleArtifactError, sha256_of
from bodypose_tools.files.figures import can_draw
from bodypose_tools.files.json_records import write_record
from bodypose_tools.networks.keras_files import save_network
from bodypose_tools.networks.network import with_dtype_policy
from bodypose_tools.runtimes.predictors import network_predictor
from pose_runtime.spec import PipelineSpec

from .callbacks import Bar, StopOnNaN, SwapToAverage
from .checkpoint import STATE_FILE, Checkpoint, RunState, TrainingError, restore
from .log import VALIDATED, TrainingLog, draw_curves
from .setup import Trained, chosen_records
from .sheets import draw_samples, pictured
from .spec import TrainSpec

Say = Callable[[str], None]

_BEST = "best.keras"
_PROBLEMS = "annotation_problems.csv"
_SAMPLES_FOLDER = "samples"
_EVALUATED_AT_ONCE = 8


def train(
    spec: TrainSpec, results_dir: Path, *, resume: bool, say: Say, stage: str = "train"
) -> Artifact:
    """Train until `num_epoch`, keeping the checkpoint with the best AP on the validation split.

    Writes into `results_dir`: best.keras (moving-average weights, float32 graph) with its record,
    log.csv, curves.png, TensorBoard's events, sample predictions, spec.json, the annotations that
    were left out, and a resumable checkpoint every `checkpoint_n_epoch`.

    `stage` is what the record says, "retrain" after pruning.

    Raises:
        TrainingError: the folder already holds a run and `resume` is off, or the loss is NaN.
        DatasetError, ConfigError, BackboneError, DeviceError: an input is missing or does not fit.
    """
    if (results_dir / STATE_FILE).exists() and not resume:
        raise TrainingError(
            f"{results_dir}: expected an empty folder, got a run; add --resume or choose another -r"
        )
    results_dir.mkdir(parents=True, exist_ok=True)
    validated = _val_records(spec)
    trained = Trained.of(spec, _checked_records(spec, results_dir, say))
    stream, model = trained.stream, trained.model
    state = restore(model, results_dir) if resume else RunState()
    write_record(results_dir / "spec.json", spec.model_dump(mode="json"))
    checkpoint = Checkpoint(spec, results_dir, state)
    log = TrainingLog(results_dir, state.rows)
    pictures = pictured(validated or trained.stream.records)
    keeper = _Keeper(spec, trained, pictures, checkpoint, log, results_dir, state, say, stage)
    bar = [Bar(spec, state.epoch)] if sys.stderr.isatty() else []
    say(f"{stream.steps_per_epoch} steps of {spec.dataloader.batch_size} images an epoch")
    try:
        with stream:
            model.fit(
                stream.batches(state.epoch),
                steps_per_epoch=stream.steps_per_epoch,
                initial_epoch=state.epoch,
                epochs=spec.num_epoch,
                verbose=0,
                shuffle=False,  # the stream has its own, seeded order
                callbacks=[StopOnNaN(stream), checkpoint, SwapToAverage(spec), keeper, *bar],
            )
    finally:
        log.close()
        for each in bar:
            each.close()
    if keeper.best is None:
        raise TrainingError(f"{results_dir / _BEST}: expected a network, got none in this run")
    return keeper.best


def _checked_records(spec: TrainSpec, results_dir: Path, say: Say) -> list[ImageRecord]:
    """Images to train on; what is wrong with the annotations is said, and listed in a file."""
    data = spec.dataloader.dataset_config
    annotations = data.root_data_path / data.train_data.annotation_path
    images = data.root_data_path / data.train_data.images_root_dir_path
    records, problems = checked_coco(annotations, images, spec.skeleton)
    if problems:
        write_problems(problems, results_dir / _PROBLEMS)
        say(f"warning: {annotations}: {len(problems)} problems, see {results_dir / _PROBLEMS}")
        for line in summary(problems):
            say(f"  {line}")
    return chosen_records(spec, records)


def _val_records(spec: TrainSpec) -> list[ImageRecord]:
    """Images to validate on; all there, else the first validation would end the run, hours later.

    Raises:
        DatasetError: the annotations do not fit, or an image is missing.
    """
    data = spec.dataloader.dataset_config
    if data.val_data is None:
        return []
    images = data.root_data_path / data.val_data.images_root_dir_path
    records = read_coco(data.root_data_path / data.val_data.annotation_path, images, spec.skeleton)
    for record in records:
        if not record.path.is_file():
            raise DatasetError(
                f"val_data: expected image {record.image_id} in {record.path}, got nothing there"
            )
    return records


class _Keeper(keras.callbacks.Callback):
    """Validates, keeps the best network, logs, draws, and says how long it will take."""

    def __init__(
        self,
        spec: TrainSpec,
        trained: Trained,
        pictures: list[ImageRecord],
        checkpoint: Checkpoint,
        log: TrainingLog,
        results_dir: Path,
        state: RunState,
        say: Say,
        stage: str,
    ) -> None:
        super().__init__()
        self._spec, self._trained, self._stage = spec, trained, stage
        self._checkpoint, self._log, self._state = checkpoint, log, state
        self._folder, self._say = results_dir, say
        loader = spec.dataloader
        self._pipeline = PipelineSpec(
            skeleton=spec.skeleton,
            network_hw=(loader.image_config.height, loader.image_config.width),
            grouping=trained.grouping,
        )
        self._root = loader.dataset_config.root_data_path
        self._val = loader.dataset_config.val_data
        train_data = loader.dataset_config.train_data
        self._data = {
            "train_annotations_sha256": sha256_of(self._root / train_data.annotation_path),
            "train_images": len(trained.stream.records),
            "initial_weights": [parent.settings for parent in trained.parents],
        }
        self._predict = network_predictor(trained.network, self._pipeline)
        self._batch = -(-_EVALUATED_AT_ONCE // trained.devices) * trained.devices
        self._pictured = pictures
        self._started = time.monotonic()
        self._first_epoch = state.epoch
        self._seconds_before = float(state.rows[-1]["seconds"]) if state.rows else 0.0
        self.best = _kept(results_dir / _BEST) if state.epoch else None
        if not can_draw():
            say("no curves.png: expected matplotlib, got none; pip install matplotlib")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.monotonic()
        images = self._trained.stream.steps_per_epoch * self._spec.dataloader.batch_size
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "loss": float((logs or {})["loss"]),
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "images_per_second": round(images / (now - self._epoch_started), 1),
        }
        if self._spec.validates_after(epoch):
            self._validate(epoch, row)
        if self._spec.draws_after(epoch) and self._pictured:
            path = self._folder / _SAMPLES_FOLDER / f"epoch_{epoch + 1:05}.png"
            draw_samples(self._predict, self._pictured, self._pipeline, path, self._batch)
        row["seconds"] = round(self._seconds_before + time.monotonic() - self._started, 1)
        self._state.epoch = epoch + 1
        self._state.rows.append(row)
        self._log.write(self._state.rows)
        if self._spec.validates_after(epoch) and can_draw():
            draw_curves(self._folder, self._state.rows)
        self._checkpoint.commit()
        self._speak(row)

    def _validate(self, epoch: int, row: dict[str, Any]) -> None:
        """Score the network, and keep it when none was better."""
        if self._val is None:
            self._save(epoch, row, None)
            return
        metrics = evaluate_model(
            self._predict,
            self._pipeline,
            self._root / self._val.annotation_path,
            self._root / self._val.images_root_dir_path,
            batch_size=self._batch,
        )
        row.update({name: round(metrics.numbers[name], 4) for name in VALIDATED})
        if self._state.best_ap < metrics.ap:
            self._save(epoch, row, metrics)

    def _save(self, epoch: int, row: dict[str, Any], metrics: CocoMetrics | None) -> None:
        self._state.best_ap = -1.0 if metrics is None else metrics.ap
        self.best = save_network(
            with_dtype_policy(self._trained.network, "float32"),
            self._folder / _BEST,
            self._stage,
            self._pipeline,
            *self._trained.parents,
            settings={
                "epoch": epoch + 1,
                "loss": row["loss"],
                "val": None if metrics is None else metrics.to_json(),
                "data": self._data,
                "spec": self._spec.model_dump(mode="json"),
            },
        )

    def _speak(self, row: dict[str, Any]) -> None:
        done = row["epoch"] - self._first_epoch
        spent = row["seconds"] - self._seconds_before
        left = (self._spec.num_epoch - row["epoch"]) * spent / done
        found = f"  AP {row['AP']:.4f} (best {self._state.best_ap:.4f})" if "AP" in row else ""
        self._say(
            f"epoch {row['epoch']}/{self._spec.num_epoch}  loss {row['loss']:.2f}{found}"
            f"  {row['seconds']:.0f} s, {left:.0f} s to go"
        )


def _kept(path: Path) -> Artifact | None:
    """The best network so far; None when the run was killed while it was written.

    The epoch that wrote it is then repeated and writes it again.
    """
    try:
        return Artifact.open(path) if path.exists() else None
    except StaleArtifactError:
        return None
