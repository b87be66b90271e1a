"""Triton's statistics extension and its configurations: both protocols send the same fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .connection import ModelStatistics, WarmUp

_COMPUTE = ("compute_input", "compute_infer", "compute_output")


def model_statistics(raw: Mapping[str, Any]) -> tuple[ModelStatistics, ...]:
    """The answer of `v2/models/stats`; numbers may be text, as protobuf's JSON has them."""
    return tuple(_one_model(model) for model in raw.get("model_stats", ()))


def warm_up_in(config: Mapping[str, Any]) -> WarmUp:
    """The requests that a model's configuration has the server send to each of its instances."""
    instances = sum(
        int(group.get("count", 1)) * max(1, len(group.get("gpus", ())))
        for group in config.get("instance_group", ())
    )
    samples = [
        (max(1, int(sample.get("batch_size", 1))), max(1, int(sample.get("count", 1))))
        for sample in config.get("model_warmup", ())
    ]
    return WarmUp(
        max(1, instances) * sum(size * count for size, count in samples),
        max(1, instances) * sum(count for _, count in samples),
    )


def _one_model(raw: Mapping[str, Any]) -> ModelStatistics:
    times = raw.get("inference_stats", {})
    succeeded = _number(times, "success", "count")
    # A composing model counts its steps by execution, an ensemble by request.
    compute_ms = sum(_mean_ms(times, step) for step in _COMPUTE)
    return ModelStatistics(
        name=str(raw.get("name", "")),
        version=str(raw.get("version", "")),
        requests=succeeded,
        failures=_number(times, "fail", "count"),
        images=int(raw.get("inference_count", 0)),
        executions=int(raw.get("execution_count", 0)),
        queue_ms=_mean_ms(times, "queue"),
        compute_ms=compute_ms,
        request_ms=_mean_ms(times, "success"),
    )


def _mean_ms(times: Mapping[str, Any], step: str) -> float:
    count = _number(times, step, "count")
    return _number(times, step, "ns") / count / 1e6 if count else 0.0


def _number(times: Mapping[str, Any], step: str, field: str) -> int:
    return int(times.get(step, {}).get(field, 0))
