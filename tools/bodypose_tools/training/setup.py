"""What a run needs before the first step: network, loss, optimizer, data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from bodypose_tools.data.annotation_check import checked_coco
from bodypose_tools.data.coco import ImageRecord
from bodypose_tools.data.labels import LabelSettings
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.networks.keras_files import load_network
from bodypose_tools.networks.network import (
    build_network,
    check_input_size,
    freeze,
    heatmap_stride,
    regularize,
    with_dtype_policy,
)
from bodypose_tools.pretrained.movenet_heads import load_heads
from bodypose_tools.pretrained.weight_file import load_backbone
from pose_runtime.spec import GroupingSettings, PipelineSpec

from .checkpoint import TrainingError
from .devices import share_batches
from .loss import DistilledTraining, FieldTraining
from .optimizers import build_optimizer
from .processes import ALONE, Processes
from .samples import SampleSettings
from .spec import TrainSpec
from .stream import WHOLE, SampleStream, Share


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """A compiled model, and the batches for it."""

    spec: TrainSpec
    network: keras.Model
    grouping: GroupingSettings  # a loaded network's own
    model: FieldTraining
    stream: SampleStream
    parents: tuple[Artifact, ...]  # the files that weights or targets come from
    devices: int
    processes: Processes = ALONE

    @classmethod
    def of(
        cls, spec: TrainSpec, records: list[ImageRecord], processes: Processes = ALONE
    ) -> TrainingSetup:
        """Set all seeds, then build.

        Raises:
            TrainingError, BackboneError, DeviceError, InputSizeError: the spec does not fit its
                files, its network or this machine.
        """
        keras.utils.set_random_seed(spec.random_seed)
        keras.mixed_precision.set_dtype_policy(spec.mixed_precision)
        devices = share_batches(spec.devices, spec.dataloader.batch_size, processes.count)
        network, grouping, parents = _initial_network(spec)
        image = spec.dataloader.image_config
        check_input_size(network, (image.height, image.width))
        share = Share(processes.rank, processes.count)
        stream = training_stream(spec, records, heatmap_stride(network), share)
        freeze(network, spec.optimizer.grad_weights_dict)
        model, teachers = _trained_model(spec, network)
        model.compile(
            optimizer=build_optimizer(spec.optimizer, spec.num_epoch * stream.steps_per_epoch),
            jit_compile="auto" if keras.backend.backend() == "tensorflow" else True,
        )
        model.optimizer.build(model.trainable_variables)
        parents = (*parents, *teachers)
        return cls(spec, network, grouping, model, stream, parents, devices, processes)

    @property
    def pipeline(self) -> PipelineSpec:
        """What the network is served with: skeleton, input size and thresholds."""
        image = self.spec.dataloader.image_config
        return PipelineSpec(
            skeleton=self.spec.skeleton,
            network_hw=(image.height, image.width),
            grouping=self.grouping,
        )


def _initial_network(
    spec: TrainSpec,
) -> tuple[keras.Model, GroupingSettings, tuple[Artifact, ...]]:
    """The network to train, its thresholds, and the files that its weights come from."""
    weights = spec.pretrained_weights
    if weights is None:
        return build_network(spec.model, spec.skeleton), GroupingSettings(), ()
    artifact = Artifact.open(weights)
    if spec.load_graph:
        loaded, grouping = _loaded(weights, spec)
        network = with_dtype_policy(loaded, spec.mixed_precision)
        if "kernel_regularization_factor" in spec.model.model_fields_set:
            regularize(network, spec.model)  # else the file's own stay
        return network, grouping, (artifact,)
    network = build_network(spec.model, spec.skeleton)
    if weights.suffix == ".npz":
        load_backbone(network, weights)
        load_heads(network, weights, spec.skeleton)
    else:
        try:
            network.set_weights(load_network(weights)[0].get_weights())
        except ValueError as error:
            raise TrainingError(
                f"{weights}: expected the weights of a {network.name} as the spec describes it, got"
                " those of another graph; add load_graph: true to take the graph from there, too"
            ) from error
    return network, GroupingSettings(), (artifact,)


def _trained_model(
    spec: TrainSpec, network: keras.Model
) -> tuple[FieldTraining, tuple[Artifact, ...]]:
    """The network with its loss, and the file of the teacher that has a part in it."""
    if spec.distillation is None:
        return FieldTraining(network, spec.model.heatmap_loss), ()
    path = spec.distillation.teacher
    teacher = with_dtype_policy(_loaded(path, spec)[0], spec.mixed_precision)
    model = DistilledTraining(network, spec.model.heatmap_loss, teacher, spec.distillation.weight)
    return model, (Artifact.open(path),)


def _loaded(path: Path, spec: TrainSpec) -> tuple[keras.Model, GroupingSettings]:
    network, pipeline, _ = load_network(path)
    if pipeline.skeleton != spec.skeleton:
        raise TrainingError(
            f"{path}: expected a network of the spec's skeleton {spec.skeleton.name},"
            f" got one of {pipeline.skeleton.name}"
        )
    return network, pipeline.grouping


def train_files(spec: TrainSpec) -> tuple[Path, Path]:
    """The annotations that a spec trains with, and the folder of their images."""
    data = spec.dataloader.dataset_config
    root, split = data.root_data_path, data.train_data
    return root / split.annotation_path, root / split.images_root_dir_path


def training_records(spec: TrainSpec, *, check_images: bool = False) -> list[ImageRecord]:
    """Images that a spec trains with; what cannot be used is left out, as `train` does.

    Raises:
        DatasetError, AnnotationError, FileError: the annotations or all images are of no use.
    """
    records, _ = checked_coco(*train_files(spec), spec.skeleton, check_images=check_images)
    return chosen_records(spec, records)


def chosen_records(spec: TrainSpec, records: list[ImageRecord]) -> list[ImageRecord]:
    """Images with people, or `train_fraction` of them; a smaller share is part of a larger one."""
    useful = [record for record in records if len(record.joints)]
    fraction = spec.dataloader.dataset_config.train_fraction
    if fraction == 1:
        return useful
    order = np.random.default_rng(spec.random_seed).permutation(len(useful))
    return [useful[index] for index in sorted(order[: round(fraction * len(useful))])]


def training_stream(
    spec: TrainSpec, records: list[ImageRecord], stride: int, share: Share = WHOLE
) -> SampleStream:
    """Batches for a network whose heatmaps have `stride` network pixels per cell."""
    loader = spec.dataloader
    settings = SampleSettings(
        spec.skeleton,
        (loader.image_config.height, loader.image_config.width),
        LabelSettings(**loader.label_processor_config.model_dump(), heatmap_stride=stride),
        loader.augmentation_config,
    )
    return SampleStream(
        records,
        settings,
        batch_size=loader.batch_size,
        seed=spec.random_seed,
        workers=loader.workers,
        cache_mib=loader.image_cache_mib,
        share=share,
    )
