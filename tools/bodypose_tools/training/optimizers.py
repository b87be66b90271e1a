"""The optimizer: TAO's learning-rate schedule, with multipliers by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from .spec import OptimizerConfig

_KERNEL_AXES = 4


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


class _Multiplied(keras.optimizers.Optimizer):
    """An optimizer's learning rate, multiplied for the layers named in `multipliers`.

    With `relative`, the steps of a kernel are also in proportion to each filter's own size (root
    mean square). Filters into which a batch norm was folded differ ten thousandfold in size; a
    step of Adam that suits the large ones destroys the small ones.
    """

    multipliers: dict[str, float]
    relative = False

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        self._multiplier_of = [self._multiplier(variable.path) for variable in variables]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        multiplier = self._multiplier_of[self._get_variable_index(variable)]
        rate = learning_rate * multiplier
        if self.relative and len(variable.shape) == _KERNEL_AXES:
            rate = rate * _filter_sizes(variable)
        super().update_step(gradient, variable, rate)

    def _multiplier(self, path: str) -> float:
        layer = path.split("/")[-2] if "/" in path else path
        matches = (value for key, value in self.multipliers.items() if layer.startswith(key))
        return next(matches, 1.0)


def _filter_sizes(kernel: Any) -> Any:
    """Root mean square of each filter of a (rows, columns, in, out) kernel, to multiply it with.

    A depthwise kernel is (rows, columns, channels, 1): a filter for each channel. A filter
    of zeros has no size, and takes plain steps.
    """
    axes = (0, 1) if kernel.shape[-1] == 1 else (0, 1, 2)
    sizes = ops.sqrt(ops.mean(ops.square(kernel), axis=axes, keepdims=True))
    return ops.where(sizes > 0, sizes, 1.0)


class MultipliedAdamW(_Multiplied, keras.optimizers.AdamW):
    """AdamW with learning-rate multipliers by layer."""


class MultipliedSGD(_Multiplied, keras.optimizers.SGD):
    """SGD with learning-rate multipliers by layer."""


def build_optimizer(config: OptimizerConfig, steps: int) -> keras.optimizers.Optimizer:
    """The spec's optimizer for a run of `steps` batches."""
    schedule = SoftstartAnnealing(
        config.learning_rate_schedule.base_learning_rate,
        config.learning_rate_schedule.min_learning_rate,
        config.learning_rate_schedule.soft_start,
        config.learning_rate_schedule.annealing,
        steps,
    )
    common: dict[str, Any] = {
        "global_clipnorm": config.clip_norm,
        "weight_decay": config.weight_decay,
    }
    if config.ema_momentum:
        common |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    optimizer: MultipliedAdamW | MultipliedSGD
    if config.name == "sgd":
        optimizer = MultipliedSGD(schedule, momentum=config.momentum, **common)
    else:
        optimizer = MultipliedAdamW(schedule, **common)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.multipliers = config.grad_weights_dict
    optimizer.relative = config.relative_steps
    return optimizer
