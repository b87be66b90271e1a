"""What each step does with the places of a request's images, and whose requests it counts.

Triton gives a step no sign of who asks. So the ensemble's requests are told by what they ask for:
preprocessing's outputs but for `image_hw`, which only callers of the step itself get. They bring
the images' places to the steps behind it. All others take no place, free none and are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .admission import Admission, Names, Places
from .errors import Cancelled
from .spec import TensorSpec

_LONGEST_TIMEOUT_US = 10**12  # 11 days; more would not fit into the deadline
# Who has waited less is still wanted: asking Triton takes it 0.1 ms, a tenth of a short step.
_SHORT_WAIT_NS = 2 * 10**6


@dataclass(slots=True)
class Visit:
    """One request in one step."""

    is_own: bool = False  # the ensemble's
    names: Names = field(default_factory=list)
    deadline_ns: int = 0  # of this host's monotonic clock; 0: none
    has_waited: bool = True  # so long that its sender may have given up

    def places(self, images: int) -> Places:
        """(B, 2): what goes on to the steps behind; zeros for a request without places."""
        names = self.names or [0] * images
        return np.array([(name, self.deadline_ns) for name in names], np.int64)

    def check_wanted(self, request: Any) -> None:
        """Raises: Cancelled: nobody waits for the answer any more."""
        is_given_up = self.has_waited and request.is_cancelled()
        if is_given_up or 0 < self.deadline_ns < time.monotonic_ns():
            raise Cancelled


class Passage:
    """Without places: every request counts."""

    def arrive(self, pb_utils: Any, request: Any) -> Visit:
        """Whose request this is; the work on its images begins."""
        return Visit(is_own=True)

    def admit(self, visit: Visit, images: int) -> None:
        """Raises: ServerFull: there are no places for so many images."""

    def leave(self, visit: Visit) -> None:
        """The step has succeeded."""

    def fail(self, visit: Visit) -> None:
        """The step, and the request with it, has failed."""


EVERYONE = Passage()


@dataclass(frozen=True)
class _WithPlaces(Passage):
    """Of a step that passes on its images' places, or gives them back when it fails."""

    admission: Admission

    def leave(self, visit: Visit) -> None:
        if visit.names:
            self.admission.pass_on(visit.names)

    def fail(self, visit: Visit) -> None:
        if visit.names:
            self.admission.give_back(visit.names)


@dataclass(frozen=True)
class Entrance(_WithPlaces):
    """Of preprocessing.

    limit: of the images under way.
    asked: the outputs that only the ensemble asks for.
    """

    limit: int
    asked: frozenset[str]

    def arrive(self, pb_utils: Any, request: Any) -> Visit:
        if set(request.requested_output_names()) != self.asked:
            return Visit()
        timeout_us = min(request.timeout(), _LONGEST_TIMEOUT_US)
        deadline_ns = time.monotonic_ns() + 1000 * timeout_us if timeout_us > 0 else 0
        has_waited = not self.admission.is_idle
        return Visit(is_own=True, deadline_ns=deadline_ns, has_waited=has_waited)

    def admit(self, visit: Visit, images: int) -> None:
        if visit.is_own:
            visit.names = self.admission.take(
                images, limit=self.limit, deadline_ns=visit.deadline_ns
            )


@dataclass(frozen=True)
class Between(_WithPlaces):
    """Of a step that images come to with their places, in the tensor `place`."""

    place: TensorSpec

    def arrive(self, pb_utils: Any, request: Any) -> Visit:
        tensor = pb_utils.get_input_tensor_by_name(request, self.place.name)
        places: Sequence[Sequence[int]] = tensor.as_numpy().tolist() if tensor else []
        names = [name for name, _ in places]
        if not any(names):
            return Visit()
        # A place that has passed its deadline may be another image's by now.
        waited_ns = self.admission.claim(names)
        return Visit(
            is_own=waited_ns is not None,
            names=names,
            deadline_ns=places[0][1],
            has_waited=waited_ns is None or waited_ns > _SHORT_WAIT_NS,
        )


class Exit(Between):
    """Of grouping, which no image leaves for another step."""

    def leave(self, visit: Visit) -> None:
        self.fail(visit)
