"""Validation of a network while it trains, and the best one so far on disk."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from bodypose_client.scoring.coco_eval import CocoMetrics
from bodypose_tools.data.coco import ImageRecord
from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.files.artifacts import (
    Artifact,
    MissingArtifactError,
    StaleArtifactError,
    sha256_of,
)
from bodypose_tools.networks.keras_files import save_network
from bodypose_tools.networks.network import with_dtype_policy
from bodypose_tools.runtimes.predictors import network_predictor

from .setup import TrainingSetup
from .sheets import draw_samples, pictured

_EVALUATED_AT_ONCE = 8


class Validation:
    """Scores the network as it is now, and draws what it finds."""

    def __init__(self, setup: TrainingSetup, val_records: list[ImageRecord]) -> None:
        dataset = setup.spec.dataloader.dataset_config
        self._pipeline = setup.pipeline
        self._root, self._split = dataset.root_data_path, dataset.val_data
        self._trained = self._network = setup.network
        with setup.processes.own_work():
            if setup.processes.count > 1:  # the others' devices take no part
                self._network = with_dtype_policy(self._trained, setup.spec.mixed_precision)
            self._predict = network_predictor(self._network, setup.pipeline)
        self._batch = -(-_EVALUATED_AT_ONCE // setup.devices) * setup.devices
        self._pictured = pictured(val_records or setup.stream.records)

    def score(self) -> CocoMetrics | None:
        """COCO's numbers on the validation split; None for a spec without one."""
        if self._split is None:
            return None
        self._take_weights()
        return evaluate_model(
            self._predict,
            self._pipeline,
            self._root / self._split.annotation_path,
            self._root / self._split.images_root_dir_path,
            batch_size=self._batch,
        )

    def draw(self, path: Path) -> None:
        """Write a sheet of sample predictions; nothing when no image has people."""
        if self._pictured:
            self._take_weights()
            draw_samples(self._predict, self._pictured, self._pipeline, path, self._batch)

    def _take_weights(self) -> None:
        if self._network is not self._trained:
            self._network.set_weights(self._trained.get_weights())


class BestNetwork:
    """The `.keras` file of the best epoch, with the record of how it was made."""

    def __init__(self, path: Path, stage: str, setup: TrainingSetup) -> None:
        self._path, self._stage, self._setup = path, stage, setup
        self.artifact: Artifact | None = None
        data = setup.spec.dataloader.dataset_config
        self._data = {
            "train_annotations_sha256": sha256_of(
                data.root_data_path / data.train_data.annotation_path
            ),
            "train_images": len(setup.stream.records),
            "initial_weights": [parent.settings for parent in setup.parents],
        }

    def reopen(self) -> None:
        """Take up the file of a resumed run.

        There is none when the run was killed while it was written; the epoch that wrote it is then
        repeated and writes it again.
        """
        with contextlib.suppress(StaleArtifactError, MissingArtifactError):
            self.artifact = Artifact.open(self._path)

    def replace(self, epoch: int, loss: float, metrics: CocoMetrics | None) -> None:
        """Save the network as the best; `epoch` counts from 1."""
        settings: dict[str, Any] = {
            "epoch": epoch,
            "loss": loss,
            "val": None if metrics is None else metrics.to_json(),
            "data": self._data,
            "spec": self._setup.spec.model_dump(mode="json"),
        }
        self.artifact = save_network(
            with_dtype_policy(self._setup.network, "float32"),
            self._path,
            self._stage,
            self._setup.pipeline,
            *self._setup.parents,
            settings=settings,
        )
