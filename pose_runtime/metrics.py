"""Owns our own figures on Triton's /metrics page: people, images, refusals, time per stage.

Each call of Triton's metrics takes 20 to 100 us (a message to the server's process), so a thread
sends the figures, together and behind the answers. Only the ensemble's requests count: what
warm-ups and callers of a single step are told moves no alarm.

What is registered is never given back. Triton would remove a figure that another process of the
model, or its next version, counts in as well, and would die of the next count (its issue 8663).
In the wheel's Triton, as in 26.01, a model's process died of the giving back itself (8662).
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .errors import REASONS

# Where the people of an image are counted: one bucket each up to 4, then coarser.
PEOPLE_BUCKETS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 20)
_PAUSE_S: Final = 0.02  # between two messages with figures, so that a busy stage sends few
_LONGEST_END_S: Final = 5.0


@dataclass(slots=True)
class _Figures:
    """What was counted while one batch was worked on."""

    requests: int = 0
    seconds: float = 0.0
    people: list[int] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, other: _Figures) -> None:
        self.requests += other.requests
        self.seconds += other.seconds
        self.people += other.people
        self.refused += other.refused


class StageMetrics:
    """The figures of one Python model. Without metrics in the server every method does nothing."""

    def __init__(self, pb_utils: Any, stage: str) -> None:
        """Register the figures, at 0.

        Args:
            pb_utils: Triton's module `triton_python_backend_utils`.
            stage: "preprocess", "network" or "grouping".
        """
        self._figures = _Figures()
        self._metrics: dict[str, Any] = {}
        try:
            self._register(pb_utils.MetricFamily, stage)
        except Exception:  # a border: a server without metrics serves all the same
            self._metrics = {}
        self._counted: queue.SimpleQueue[_Figures | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, daemon=True, name="metrics")
        self._sender.start()

    def close(self) -> None:
        """Send what was counted; the model ends."""
        self._counted.put(None)
        self._sender.join(_LONGEST_END_S)

    def count_request(self) -> None:
        """The execution works on one more request of the ensemble."""
        self._figures.requests += 1

    def count_people(self, num_people: NDArray[np.int32]) -> None:
        """B more images were answered, with (B, 1) people."""
        self._figures.people += num_people.ravel().tolist()

    def count_refused(self, reason: str) -> None:
        """One more image was refused; `reason` is one of `errors.REASONS`."""
        self._figures.refused[reason] += 1

    @contextmanager
    def execution(self) -> Iterator[None]:
        """Around one call of the model's `execute`: its time is counted, its figures go out."""
        started = time.perf_counter()
        try:
            yield
        finally:
            counted, self._figures = self._figures, _Figures()
            if counted.requests:
                counted.seconds = time.perf_counter() - started
                self._counted.put(counted)

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

    def _send_all(self) -> None:
        """The thread's work: figures that wait are sent together."""
        more = True
        while more:
            waiting = [self._counted.get()]
            with suppress(queue.Empty):
                while True:
                    waiting.append(self._counted.get_nowait())
            more = None not in waiting
            figures = _Figures()
            for counted in filter(None, waiting):
                figures.add(counted)
            self._send(figures)
            if more:
                time.sleep(_PAUSE_S)

    def _send(self, figures: _Figures) -> None:
        if not self._metrics or not figures.requests:
            return
        try:
            self._metrics["seconds"].increment(figures.seconds)
            for reason, count in figures.refused.items():
                self._metrics[reason].increment(count)
            if figures.people:
                self._metrics["images"].increment(len(figures.people))
                self._metrics["people"].increment(sum(figures.people))
                for count in figures.people:
                    self._metrics["per_image"].observe(count)
        except Exception:  # a border, as above
            self._metrics = {}


def _lasting(family: Any, name: str, description: str, kind: Any) -> Any:
    """A family that lives as long as the process, and its metrics with it, also while it ends."""
    made = family(name=name, description=description, kind=kind)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
    return made
