"""Training: a spec and a COCO-format set become the best checkpoint and its record."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bodypose_client.image_check import check_split
from bodypose_tools.data.annotation_check import checked_coco, summary, write_problems
from bodypose_tools.data.coco import ImageRecord, read_coco
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.figures import can_draw
from bodypose_tools.files.json_records import write_record
from pose_runtime.extras import install_line

from .callbacks import Bar, EpochEnd, QuietFirstStep, StopOnNaN, SwapToAverage
from .checkpoint import STATE_FILE, Checkpoint, RunState, TrainingError, restore
from .log import BEST_FILE
from .processes import ALONE, Processes, join_processes
from .setup import TrainingSetup, chosen_records, train_files, training_records
from .spec import TrainSpec
from .validation import BestNetwork, Validation

Say = Callable[[str], None]

_PROBLEMS = "annotation_problems.csv"


def train(
    spec: TrainSpec,
    results_dir: Path,
    *,
    resume: bool,
    say: Say,
    stage: str = "train",
    check_images: bool = False,
) -> Artifact:
    """Train until `num_epoch`, keeping the checkpoint with the best AP on the validation split.

    Writes into `results_dir`: best.keras (moving-average weights, float32 graph) with its record,
    log.csv, curves.png, sample predictions, spec.json, the annotations that were left out, and a
    resumable checkpoint every `checkpoint_n_epoch`.

    Args:
        spec: the training spec.
        results_dir: folder of the run.
        resume: whether to continue from the folder's last checkpoint.
        say: gets a line for each thing done.
        stage: name of the stage in the record, "retrain" after pruning.
        check_images: decode every image before the first step.

    Raises:
        TrainingError: the folder already holds a run and `resume` is off, or the loss is NaN.
        DatasetError, ConfigError, BackboneError, DeviceError: an input is missing or does not fit.
    """
    if (results_dir / STATE_FILE).exists() and not resume:
        raise TrainingError(
            f"{results_dir}: expected an empty folder, got a run; add --resume or choose another -r"
        )
    processes = join_processes(spec.processes, spec.devices)
    val_records: list[ImageRecord] = []
    if processes.leads:
        results_dir.mkdir(parents=True, exist_ok=True)
        val_records = _val_records(spec, check_images)
    records = _checked_records(spec, results_dir, say, check_images, processes)
    setup = TrainingSetup.of(spec, records, processes)
    stream, model = setup.stream, setup.model
    state = restore(model, results_dir) if resume else RunState()
    processes.check_agreed(state.epoch)
    best = BestNetwork(results_dir / BEST_FILE, stage, setup)
    quiet = QuietFirstStep()
    callbacks: list[Any] = [StopOnNaN(stream), quiet]
    bar: list[Bar] = []
    if processes.leads:
        write_record(results_dir / "spec.json", spec.model_dump(mode="json"))
        checkpoint = Checkpoint(spec, results_dir, state, processes)
        if state.epoch:
            best.reopen()
        epoch_end = EpochEnd(setup, Validation(setup, val_records), best, checkpoint, say)
        if not can_draw():
            say(f"no curves.png: expected matplotlib, got none; run {install_line('train')}")
        bar = [Bar(spec, state.epoch)] if sys.stderr.isatty() else []
        say(f"{stream.steps_per_epoch} steps of {spec.dataloader.batch_size} images an epoch")
        callbacks += [checkpoint, SwapToAverage(spec), epoch_end, *bar]
    else:
        callbacks += [SwapToAverage(spec)]
    try:
        with stream:
            model.fit(
                stream.batches(state.epoch),
                steps_per_epoch=stream.steps_per_epoch,
                initial_epoch=state.epoch,
                epochs=spec.num_epoch,
                verbose=0,
                shuffle=False,  # the stream has its own, seeded order
                callbacks=callbacks,
            )
    finally:
        quiet.close()
        for each in bar:
            each.close()
    processes.wait("the end of training")
    if not processes.leads:
        best.reopen()
    if best.artifact is None:
        raise TrainingError(f"{results_dir / BEST_FILE}: expected a network, got none in this run")
    return best.artifact


def check_data(spec: TrainSpec, check_images: bool = False) -> None:
    """Refuse a spec's annotations now, where training would meet them after other work.

    Raises:
        DatasetError, AnnotationError, FileError: as `train`; with `check_images` every image of
            the validation split is decoded, while training leaves out what it cannot use.
    """
    _val_records(spec, check_images)
    training_records(spec)


def _checked_records(
    spec: TrainSpec,
    results_dir: Path,
    say: Say,
    check_images: bool = False,
    processes: Processes = ALONE,
) -> list[ImageRecord]:
    """Images to train on; the leading process sums up and lists problems of the annotations."""
    annotations, images = train_files(spec)
    records, problems = checked_coco(annotations, images, spec.skeleton, check_images=check_images)
    if problems and processes.leads:
        write_problems(problems, results_dir / _PROBLEMS)
        say(f"warning: {annotations}: {len(problems)} problems, see {results_dir / _PROBLEMS}")
        for line in summary(problems):
            say(f"  {line}")
    return chosen_records(spec, records)


def _val_records(spec: TrainSpec, check_images: bool) -> list[ImageRecord]:
    """Images to validate on; a missing one would else end the run at the first validation.

    Raises:
        DatasetError: the annotations do not fit, or an image is missing.
    """
    data = spec.dataloader.dataset_config
    if data.val_data is None:
        return []
    images = data.root_data_path / data.val_data.images_root_dir_path
    annotations = data.root_data_path / data.val_data.annotation_path
    if check_images:
        check_split(annotations, images, decode=True)
    return read_coco(annotations, images, spec.skeleton)
