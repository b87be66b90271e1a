"""Owns what watches a run while it trains: the stop on NaN, the moving average, the bar."""

from __future__ import annotations

import math
import threading
from typing import Any

import keras
from rich.console import Console
from rich.progress import Progress, TextColumn

from .checkpoint import TrainingError
from .spec import TrainSpec
from .stream import SampleStream


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
            f" {self._next + 1}, images {images}; look at their annotations, or lower"
            " base_learning_rate, then --resume from the last checkpoint"
        )


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
        """Also when training ended by an error, which Keras tells no callback."""
        self._progress.stop()
