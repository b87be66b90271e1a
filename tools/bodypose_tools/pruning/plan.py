"""The plan of `tools optimize`: how each step prunes and trains, and when to stop."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bodypose_tools.training.spec import DistillationConfig, TrainSpec

from .settings import CostTarget, Importance, PruneSettings

_CHECKPOINTS = 10  # of a step's retraining, at least
# Keys that may differ between the starts of a run: they do not change its result.
_PLACES: Any = {
    "pretrained_weights": True,
    "load_graph": True,
    "checkpoint_n_epoch": True,
    "validation_every_n_epoch": True,
    "draw_every_n_epoch": True,
    "devices": True,
    "distillation": {"teacher"},
    "dataloader": {"workers": True, "image_cache_mib": True, "dataset_config": {"root_data_path"}},
}


class Work(StrEnum):
    """Which part of the loop this machine does."""

    ALL = "all"
    TRAINING = "training"  # no export, no timing
    TIMING = "timing"  # only export and timing


@dataclass(frozen=True, slots=True)
class PruningPlan:
    """How a run prunes and trains; the same at every start of it."""

    steps: int
    target: CostTarget  # what the last step may leave of the unpruned network
    pruning: PruneSettings
    training: TrainSpec  # of each step
    taylor_batches: int = 32  # read by `Importance.TAYLOR` only

    @classmethod
    def of(
        cls,
        spec: TrainSpec,
        steps: int,
        target: CostTarget,
        pruning: PruneSettings,
        *,
        epochs: int | None,
        distilled: DistillationConfig | None,
        taylor_batches: int,
    ) -> PruningPlan:
        """A plan whose steps train by `spec`; `epochs` and `distilled` override it if given."""
        epochs = epochs or spec.num_epoch
        training = spec.model_copy(
            update={
                "num_epoch": epochs,
                "checkpoint_n_epoch": min(spec.checkpoint_n_epoch, -(-epochs // _CHECKPOINTS)),
                "distillation": distilled or spec.distillation,
                "load_graph": True,
            }
        )
        return cls(steps, target, pruning, training, taylor_batches)

    def goal(self, step: int, unpruned: int, now: int) -> CostTarget:
        """Target of step 1, 2, ... against the network before it; every step has the same."""
        wanted = self.target.share ** (step / self.steps) * unpruned
        return CostTarget(self.target.cost, min(wanted / now, 0.99))

    def to_json(self) -> dict[str, Any]:
        """The settings in the record of a run."""
        pruning = self.pruning
        raw = {
            "steps": self.steps,
            "target": {self.target.cost.value: self.target.share},
            "normalizer": pruning.normalizer,
            "equalization_criterion": pruning.equalization,
            "pruning_granularity": pruning.granularity,
            "min_num_filters": pruning.min_filters,
            "excluded_layers": pruning.excluded_layers,
            "importance": pruning.importance,
            "training": self.training.model_dump(mode="json", exclude=_PLACES),
        }
        if pruning.importance is Importance.TAYLOR:
            raw["taylor_batches"] = self.taylor_batches
        return dict(json.loads(json.dumps(raw)))  # tuples and enums as JSON has them


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop, and how to time; may change from start to start."""

    max_ap_drop: float
    seconds: float | None = None  # of this start; it ends at a checkpoint
    rounds: int = 50
    threads: int = 1
    work: Work = Work.ALL
