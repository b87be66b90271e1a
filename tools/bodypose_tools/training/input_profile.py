"""Whether training waits for its input: the training step timed with and without it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from .samples import Targets
from .setup import TrainingSetup, training_records
from .spec import TrainSpec

_ROUNDS = 3
_KEPT_BATCHES = 4  # on the device; more than one, so that no result is reused


def profile_input(
    spec: TrainSpec, steps: int, say: Callable[[str], None], *, check_images: bool = False
) -> dict[str, Any]:
    """Images per second of a spec's training step with real data, and with batches that the
    device has already; also of the input alone.

    Real data and kept batches take turns, so that other load on the machine affects both. The first
    half of a turn is not timed: it consumes the batches made in advance.

    Args:
        spec: as for training; `num_epoch` does not matter.
        steps: batches in each timed interval.
        say: gets a line for each interval, and for each round's rates at the end.
        check_images: decode every image before the first step.

    Raises:
        DatasetError, ConfigError, BackboneError, DeviceError: as `train`.
    """
    setup = TrainingSetup.of(spec, training_records(spec, check_images=check_images))
    size = spec.dataloader.batch_size
    with setup.stream as stream:
        real = stream.batches()
        kept = itertools.cycle([_on_device(next(real)) for _ in range(_KEPT_BATCHES)])
        watch = _Stopwatch(say)
        # One `fit`: with averaged weights, Keras 3.15 on JAX cannot `fit` a model twice.
        setup.model.fit(
            _in_turn([kept, real], 2 * steps),
            steps_per_epoch=steps,
            epochs=4 * _ROUNDS,
            verbose=0,
            shuffle=False,
            callbacks=[watch],
        )
        rates = {
            "kept": [steps * size / seconds for seconds in watch.seconds[1::4]],
            "real": [steps * size / seconds for seconds in watch.seconds[3::4]],
            "input": [steps * size / _seconds_alone(real, steps) for _ in range(_ROUNDS)],
        }
    for number in range(1, _ROUNDS + 1):
        said = ", ".join(f"{name} {values[number - 1]:.0f}" for name, values in rates.items())
        say(f"round {number}/{_ROUNDS}, images/s: {said}")
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "schema": "bodypose-input-profile/1",
        "device": _device(),
        "backend": keras.backend.backend(),
        "batch_size": size,
        "workers": spec.dataloader.workers,
        "image_cache_mib": spec.dataloader.image_cache_mib,
        "images_per_second": {
            "real_data": round(medians["real"], 3),
            "batches_on_device": round(medians["kept"], 3),
            "input_alone": round(medians["input"], 3),
        },
        "share": round(medians["real"] / medians["kept"], 4),
    }


def _in_turn(sources: Sequence[Iterator[Any]], batches: int) -> Iterator[Any]:
    """For ever so many batches of each source, in turn."""
    for source in itertools.cycle(sources):
        yield from itertools.islice(source, batches)


def _on_device(batch: tuple[Any, Targets]) -> tuple[Any, Targets]:
    pixels, targets = batch
    return ops.convert_to_tensor(pixels), Targets(*map(ops.convert_to_tensor, targets))


class _Stopwatch(keras.callbacks.Callback):
    """Times every epoch, from its first step to the moment when its loss is known."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.monotonic() - self._started)
        self._say(f"stretch {epoch + 1}/{4 * _ROUNDS}: {self.seconds[-1]:.1f} s")


def _seconds_alone(batches: Iterator[Any], steps: int) -> float:
    for _ in range(steps):
        next(batches)
    started = time.monotonic()
    for _ in range(steps):
        next(batches)
    return time.monotonic() - started


def _device() -> str:
    if keras.backend.backend() != "jax":
        return "CPU"
    import jax

    return str(jax.devices()[0].device_kind)
