"""Owns our own figures on Triton's /metrics page: people, images, refusals, time per stage.

Each call of Triton's metrics takes 20 to 100 us (a message to the server's process), so figures are
gathered while a batch is worked on and sent once behind it. Only the ensemble's requests count:
what warm-ups and callers of a single step are told moves no alarm.

What is registered is never given back. Triton would remove a figure that another process of the
model, or its next version, counts in as well, and would die of the next count (its issue 8663).
In the wheel's Triton, as in 26.01, a model's process died of the giving back itself (8662).
"""

from __future__ import annotations

import ctypes
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import REASONS

# Where the people of an image are counted: one bucket each up to 4, then coarser.
PEOPLE_BUCKETS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 20)


class StageMetrics:
    """The figures of one Python model. Without metrics in the server every method does nothing."""

    def __init__(self, pb_utils: Any, stage: str) -> None:
        """Register the figures, at 0.

        Args:
            pb_utils: Triton's module `triton_python_backend_utils`.
            stage: "preprocess", "network" or "grouping".
        """
        self._people: list[int] = []
        self._refused: Counter[str] = Counter()
        self._requests = 0
        self._metrics: dict[str, Any] = {}
        try:
            self._register(pb_utils.MetricFamily, stage)
        except Exception:  # a border: a server without metrics serves all the same
            self._metrics = {}

    def count_request(self) -> None:
        """The execution works on one more request of the ensemble."""
        self._requests += 1

    def count_people(self, num_people: NDArray[np.int32]) -> None:
        """B more images were answered, with (B, 1) people."""
        self._people += num_people.ravel().tolist()

    def count_refused(self, reason: str) -> None:
        """One more image was refused; `reason` is one of `errors.REASONS`."""
        self._refused[reason] += 1

    @contextmanager
    def execution(self) -> Iterator[None]:
        """Around one call of the model's `execute`: its time is counted, its figures are sent."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._send(time.perf_counter() - started)

    def _register(self, family: Any, stage: str) -> None:
        reasons = _lasting(
            family, "pose_rejected_images_total", "Images answered with an error.", family.COUNTER
        )
        seconds = _lasting(
            family, "pose_stage_seconds_total", "Time in a stage's model.", family.COUNTER
        )
        metrics = {reason: reasons.Metric(labels={"reason": reason}) for reason in REASONS}
        metrics["seconds"] = seconds.Metric(labels={"stage": stage})
        if stage == "grouping":
            images = _lasting(
                family, "pose_images_total", "Images answered with people.", family.COUNTER
            )
            people = _lasting(family, "pose_people_total", "People found.", family.COUNTER)
            per_image = _lasting(
                family, "pose_people_per_image", "People found in one image.", family.HISTOGRAM
            )
            metrics["images"] = images.Metric(labels={})
            metrics["people"] = people.Metric(labels={})
            metrics["per_image"] = per_image.Metric(labels={}, buckets=list(PEOPLE_BUCKETS))
        self._metrics = metrics

    def _send(self, seconds: float) -> None:
        people, refused, requests = self._people, self._refused, self._requests
        self._people, self._refused, self._requests = [], Counter(), 0
        if not self._metrics or not requests:
            return
        try:
            self._metrics["seconds"].increment(seconds)
            for reason, count in refused.items():
                self._metrics[reason].increment(count)
            if people:
                self._metrics["images"].increment(len(people))
                self._metrics["people"].increment(sum(people))
                for count in people:
                    self._metrics["per_image"].observe(count)
        except Exception:  # a border, as above
            self._metrics = {}


def _lasting(family: Any, name: str, description: str, kind: Any) -> Any:
    """A family that lives as long as the process, and its metrics with it, also while it ends."""
    made = family(name=name, description=description, kind=kind)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
    return made
