"""Checkpoints that a run resumes from: weights, optimizer and log rows after an epoch.

A checkpoint is two files: weights with the optimizer's state, and the JSON that names them. The
JSON is replaced last and at once, and the weights that it names are never written to again, so a
run that is killed at any moment has one whole checkpoint. The interrupted epoch starts anew and,
as batches depend on seed, epoch and step only, has the batches that it had.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bodypose_tools.files.atomic_files import disk_errors, reserve
from bodypose_tools.files.json_records import read_record, write_record
from pose_runtime.errors import PoseError
from pose_runtime.paths import Inside

from .processes import ALONE, Processes
from .spec import TrainSpec

STATE_FILE = "checkpoint.json"
_HDF5_OVERHEAD = 4096  # bytes of a data set beside its numbers
_WEIGHTS_FILES = ("0.checkpoint.weights.h5", "1.checkpoint.weights.h5")


class TrainingError(PoseError):
    """Training cannot start or go on; the message names what to change."""


@dataclass
class RunState:
    """State of a run besides the weights."""

    epoch: int = 0  # epochs done
    best_ap: float = -1.0
    rows: list[dict[str, Any]] = field(default_factory=list)  # of log.csv
    weights: str = ""  # the file of this checkpoint


def restore(model: keras.Model, results_dir: Path) -> RunState:
    """Load the last whole checkpoint into a compiled model; a new state when there is none.

    Raises:
        TrainingError: the checkpoint is of another network.
        ForeignPath: its weights are not to lie in `results_dir`.
    """
    state_file = results_dir / STATE_FILE
    if not state_file.exists():
        return RunState()
    raw = read_record(state_file, {"weights": str})
    try:
        model.load_weights(Inside(results_dir).path(raw["weights"]))
    except ValueError as error:
        raise TrainingError(
            f"{results_dir}: expected the spec that its run began with (spec.json), got one of"
            " another network; take that, or choose another -r"
        ) from error
    return RunState(**raw)


class Checkpoint(keras.callbacks.Callback):
    """Writes all that `restore` needs.

    The weights are saved before the moving average takes their place for validation, the state
    that names them by `commit` when the epoch's validation is in it.
    """

    def __init__(
        self, spec: TrainSpec, results_dir: Path, state: RunState, processes: Processes = ALONE
    ) -> None:
        super().__init__()
        self._processes = processes
        self._spec, self.folder, self.state = spec, results_dir, state
        self._saved: str | None = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        done = epoch + 1
        if done % self._spec.checkpoint_n_epoch and done != self._spec.num_epoch:
            return
        for variable in self.model.trainable_variables:
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                raise TrainingError(
                    f"{variable.path}: expected numbers after epoch {done}, got NaN or infinity;"
                    " lower base_learning_rate and --resume from the checkpoint before"
                )
        self._saved = next(name for name in _WEIGHTS_FILES if name != self.state.weights)
        path = self.folder / self._saved
        path.unlink(missing_ok=True)  # nothing names it: its room is free
        reserve(path, self._bytes())  # HDF5 ends the process where a write fails
        with self._processes.own_work(), disk_errors(path):
            self.model.save_weights(path)

    def _bytes(self) -> int:
        """What a file of weights and the optimizer's state takes, at most."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        numbers = sum(math.prod(variable.shape) for variable in variables)
        return 8 * numbers + _HDF5_OVERHEAD * len(variables)

    def commit(self) -> None:
        """Make what was saved the checkpoint."""
        if self._saved is not None:
            self.state.weights = self._saved
            write_record(self.folder / STATE_FILE, asdict(self.state))
            self._saved = None
