"""Settings of pruning: scores, target, limits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pose_runtime.errors import PoseError

DEFAULT_THRESHOLD = 0.1  # TAO's


class PruneError(PoseError):
    """A network cannot be pruned as asked; the message names the possible range."""


class Importance(StrEnum):
    """What a channel's score is computed from."""

    L2 = "l2"
    L1 = "l1"
    BN_GAMMA = "bn-gamma"
    TAYLOR = "taylor"  # measured by `pruning/taylor.py`


class Normalizer(StrEnum):
    """How the filters of one layer are made comparable to another layer's."""

    MAX = "max"  # 0..1: the share of the strongest filter
    L2 = "L2"  # a layer of equal filters has sqrt(filters)


class Equalization(StrEnum):
    """How layers that must be cut alike agree on one number."""

    UNION = "union"
    INTERSECTION = "intersection"
    ARITHMETIC_MEAN = "arithmetic_mean"
    GEOMETRIC_MEAN = "geometric_mean"


class Cost(StrEnum):
    """Which cost a target limits."""

    MACS = "macs"
    PARAMS = "params"


@dataclass(frozen=True, slots=True)
class CostTarget:
    """At most `share` of the network's `cost` may remain."""

    cost: Cost
    share: float


@dataclass(frozen=True, slots=True)
class PruneSettings:
    """TAO's options: how channels are scored and how many of a layer stay."""

    normalizer: Normalizer = Normalizer.MAX
    equalization: Equalization = Equalization.UNION
    granularity: int = 8  # what stays of a layer is a multiple of it
    min_filters: int = 16
    excluded_layers: tuple[str, ...] = ()  # names or patterns such as "block_1?_*"
    importance: Importance = Importance.L2

    @property
    def compared_by(self) -> Normalizer | None:
        """Normaliser of the scores; None: Taylor scores are comparable as they are."""
        return None if self.importance is Importance.TAYLOR else self.normalizer
