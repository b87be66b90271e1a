"""Tables of finished runs: changes of the spec, AP and cost.

Everything is read from the record beside each run's best.keras.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from bodypose_tools.files.artifacts import Artifact, record_path
from bodypose_tools.training.log import BEST_FILE, METRICS
from bodypose_tools.training.spec import TrainSpec, without_removed_keys
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import Skeleton

# Keys of a spec that do not change the trained network.
_NOT_A_CHANGE = (
    *("checkpoint_n_epoch", "validation_every_n_epoch", "draw_every_n_epoch", "devices"),
    *("dataloader.workers", "dataloader.image_cache_mib"),
    "dataloader.dataset_config.root_data_path",
)
# Keys that name files: their contents are compared, not their paths.
_FILES = ("pretrained_weights", "distillation.teacher")


class ExperimentError(PoseError):
    """A folder that is no finished run, or a page without a place for its table."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training run."""

    name: str
    sha256: str  # of best.keras
    epoch: int  # whose weights were the best
    num_epoch: int
    train_images: int
    network_hw: tuple[int, int]
    metrics: Mapping[str, float]  # of the validation split
    spec: TrainSpec
    skeleton: Skeleton
    parents: tuple[str, ...]  # sha256 of initial weights and of a teacher
    parameters: int | None = None
    gmacs: float | None = None
    latency_ratio: float | None = None  # to the first run of the table


class _Data(BaseModel):
    train_images: PositiveInt


class _Described(BaseModel):
    """What the record of a training run says, as far as tables need it."""

    spec: dict[str, Any]
    skeleton: dict[str, Any]
    data: _Data
    network_hw: tuple[PositiveInt, PositiveInt]
    epoch: NonNegativeInt
    val: dict[str, Annotated[float, Field(ge=-1, le=1)]]

    @model_validator(mode="after")
    def _has_all_metrics(self) -> _Described:
        if missing := [name for name in METRICS if name not in self.val]:
            raise ValueError(f"no {missing[0]}")
        return self


def read_run(folder: Path) -> Run:
    """A finished run from its record; best.keras itself may have stayed on another machine.

    Raises:
        ExperimentError: no best.keras with a record of `tools train`, or one without validation.
        StaleArtifactError: the file changed after its record was written.
    """
    best = folder / BEST_FILE
    if not record_path(best).is_file():
        raise ExperimentError(f"{folder}: expected a run of `tools train`, got no {best.name}")
    artifact = Artifact.open(best) if best.is_file() else Artifact.recorded(best)
    settings = artifact.settings
    if settings.get("val") is None:
        raise ExperimentError(f"{best}: expected AP on a validation split, got none; give val_data")
    try:
        described = _Described.model_validate(settings)
        spec = _spec_of_record(described.spec)
        skeleton = Skeleton.from_json(described.skeleton)
    except ValidationError:
        raise ExperimentError(
            f"{best}: expected a record of today's `tools train`, got an older one; train again"
        ) from None
    return Run(
        name=folder.name,
        sha256=artifact.sha256,
        epoch=described.epoch,
        num_epoch=spec.num_epoch,
        train_images=described.data.train_images,
        network_hw=described.network_hw,
        metrics={name: described.val[name] for name in METRICS},
        spec=spec,
        skeleton=skeleton,
        parents=artifact.parents,
    )


def _spec_of_record(raw: Mapping[str, Any]) -> TrainSpec:
    """Keys that came later have their defaults; those that have gone are left out."""
    return TrainSpec.model_validate(without_removed_keys(raw)[0])


def changes(run: Run, baseline: Run) -> dict[str, Any]:
    """The spec's keys whose values differ from the baseline's, by their paths."""
    ours, theirs = (dict(_flat(one.spec.model_dump(mode="json"))) for one in (run, baseline))
    if run.parents == baseline.parents:
        for key in _FILES:
            if ours.get(key) and theirs.get(key):
                ours[key] = theirs[key]
    return {
        key: ours.get(key)
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key) and not key.startswith(_NOT_A_CHANGE)
    }


def _flat(spec: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in spec.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def ablation_record(runs: Sequence[Run]) -> dict[str, Any]:
    """Runs against the first of them, for JSON."""
    rows = []
    for run in runs:
        row = asdict(run)
        del row["spec"], row["skeleton"], row["parents"]
        rows.append(row | {"changes": changes(run, runs[0])})
    return {"schema": "bodypose-ablation/1", "baseline": runs[0].name, "runs": rows}


def ablation_table(record: Mapping[str, Any]) -> str:
    """Markdown of `ablation_record`."""
    lines = [
        "| run | changed against the first | epochs (best) | images | M parameters | GMAC"
        " | latency | AP | AP50 | AP75 | APm | APl |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["runs"]:
        changed = "; ".join(
            f"{key.rpartition('.')[2]} {_short(value)}" for key, value in row["changes"].items()
        )
        parameters = row["parameters"]
        cells = [
            row["name"],
            changed or "-",
            f"{row['num_epoch']} ({row['epoch']})",
            f"{row['train_images']:,}",
            "" if parameters is None else f"{parameters / 1e6:.2f}",
            "" if row["gmacs"] is None else f"{row['gmacs']:.2f}",
            "" if row["latency_ratio"] is None else f"{row['latency_ratio']:.2f}",
            *(f"{row['metrics'][name]:.3f}" for name in METRICS),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value).rpartition("/")[2]
