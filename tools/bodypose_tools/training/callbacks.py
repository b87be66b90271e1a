"""What happens while a run trains: stop on NaN, moving average, end of an epoch, bar."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
from keras import ops
from rich.console import Console
from rich.progress import Progress, TextColumn

from bodypose_tools.files.figures import can_draw
from bodypose_tools.library_messages import known_lines_left_out

from .checkpoint import Checkpoint, TrainingError
from .log import METRICS, draw_curves, write_log
from .setup import TrainingSetup
from .spec import TrainSpec
from .stream import SampleStream
from .validation import BestNetwork, Validation

_SAMPLES_FOLDER = "samples"


class StopOnNaN(keras.callbacks.Callback):
    """Ends training at the first batch whose loss is no number, and names its images.

    Keras reports the mean over the epoch so far, which stays NaN from that batch on.
    """

    # Keras then calls this from threads, in any order, and the device need not wait for it.
    async_safe = True

    def __init__(self, stream: SampleStream) -> None:
        super().__init__()
        self._stream = stream
        self._lock = threading.Lock()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._next = epoch, 0
        self._reported: dict[int, float] = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        with self._lock:
            self._reported[batch] = float((logs or {})["loss"])
            while self._next in self._reported:
                loss = self._reported.pop(self._next)
                if not math.isfinite(loss):
                    self._reported[self._next] = loss  # later reports end here, too
                    raise self._error(loss)
                self._next += 1

    def _error(self, loss: float) -> TrainingError:
        images = ", ".join(map(str, self._stream.image_ids(self._epoch, self._next)))
        return TrainingError(
            f"loss: expected a number, got {loss} in epoch {self._epoch + 1}, step"
            f" {self._next + 1}, images {images}; check their annotations, or lower"
            " base_learning_rate, then --resume from the last checkpoint"
        )


class QuietFirstStep(keras.callbacks.Callback):
    """Leaves out what TensorFlow is known to say when it optimises the step, which it does once."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = contextlib.ExitStack()
        self._begun = False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if not self._begun:
            self._begun = True
            self._kept.enter_context(known_lines_left_out())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        """Show what was kept back, also when the step failed."""
        self._kept.close()


class SwapToAverage(keras.callbacks.SwapEMAWeights):
    """The moving average takes the network's place while an epoch's validation runs."""

    def __init__(self, spec: TrainSpec) -> None:
        super().__init__(swap_on_epoch=True)
        self._spec = spec
        self._swapped = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        used = self._spec.validates_after(epoch) or self._spec.draws_after(epoch)
        if self._spec.optimizer.ema_momentum and used:
            super().on_epoch_end(epoch, logs)
            self._swapped = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._swapped:
            super().on_epoch_begin(epoch, logs)
            self._swapped = False


class EpochEnd(keras.callbacks.Callback):
    """After each epoch: validates, keeps the best network, logs, draws, commits the checkpoint.

    It comes after `Checkpoint` and `SwapToAverage`: what it validates is the moving average.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        validation: Validation,
        best: BestNetwork,
        checkpoint: Checkpoint,
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._spec, self._stream, self._processes = setup.spec, setup.stream, setup.processes
        self._validation, self._best, self._checkpoint = validation, best, checkpoint
        self._state, self._folder, self._say = checkpoint.state, checkpoint.folder, say
        self._started = time.monotonic()
        self._first_epoch = self._state.epoch
        rows = self._state.rows
        self._seconds_before = float(rows[-1]["seconds"]) if rows else 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch_started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with self._processes.own_work():
            self._end(epoch, logs)

    def _end(self, epoch: int, logs: Any) -> None:
        now = time.monotonic()
        images = self._stream.steps_per_epoch * self._spec.dataloader.batch_size
        row: dict[str, Any] = {
            "epoch": epoch + 1,
            "loss": float((logs or {})["loss"]),
            "learning_rate": float(ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "images_per_second": round(images / (now - self._epoch_started), 1),
        }
        if self._spec.validates_after(epoch):
            self._validate(row)
        if self._spec.draws_after(epoch):
            self._validation.draw(self._folder / _SAMPLES_FOLDER / f"epoch_{epoch + 1:05}.png")
        row["seconds"] = round(self._seconds_before + time.monotonic() - self._started, 1)
        self._state.epoch = epoch + 1
        self._state.rows.append(row)
        write_log(self._folder, self._state.rows)
        if self._spec.validates_after(epoch) and can_draw():
            draw_curves(self._folder, self._state.rows)
        self._checkpoint.commit()
        self._say(self._line(row))

    def _validate(self, row: dict[str, Any]) -> None:
        """Score the network, and keep it when none was better; without a split, always."""
        metrics = self._validation.score()
        if metrics is not None:
            row.update({name: round(metrics.numbers[name], 4) for name in METRICS})
            if metrics.ap <= self._state.best_ap:
                return
            self._state.best_ap = metrics.ap
        self._best.replace(row["epoch"], row["loss"], metrics)

    def _line(self, row: dict[str, Any]) -> str:
        done = row["epoch"] - self._first_epoch
        spent = row["seconds"] - self._seconds_before
        left = (self._spec.num_epoch - row["epoch"]) * spent / done
        found = f"  AP {row['AP']:.4f} (best {self._state.best_ap:.4f})" if "AP" in row else ""
        return (
            f"epoch {row['epoch']}/{self._spec.num_epoch}  loss {row['loss']:.2f}{found}"
            f"  {row['seconds']:.0f} s, {left:.0f} s to go"
        )


class Bar(keras.callbacks.Callback):
    """A bar over all steps of the run, with the loss and the time left, for a terminal."""

    async_safe = True

    def __init__(self, spec: TrainSpec, epochs_done: int) -> None:
        super().__init__()
        self._epochs, self._done = spec.num_epoch, epochs_done
        self._progress = Progress(
            *Progress.get_default_columns(),
            TextColumn("epoch {task.fields[epoch]}, loss {task.fields[loss]:.2f}"),
            console=Console(stderr=True),
            transient=True,
            speed_estimate_period=600,  # so that validations are part of the time left
        )

    def on_train_begin(self, logs: Any = None) -> None:
        steps = self.params["steps"]
        self._task = self._progress.add_task(
            "training",
            total=self._epochs * steps,
            completed=self._done * steps,
            epoch=self._done + 1,
            loss=math.nan,
        )
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._progress.update(self._task, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._progress.update(self._task, advance=1, loss=(logs or {}).get("loss", math.nan))

    def close(self) -> None:
        """Remove the bar; needed after an error, too, of which Keras informs no callback."""
        self._progress.stop()
