"""Training specs: YAML with TAO's key names, checked here and nowhere else.

Keys that BodyPoseNet had and that mean the same here keep their names and sections; what it
ignored, or what only TensorFlow 1 needed, is refused by name (`extra="forbid"`).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from bodypose_tools.data.skeletons import ConfigError, load_skeleton
from bodypose_tools.data.yaml_files import read_yaml
from bodypose_tools.networks.fields import SIDE_MULTIPLE, STRIDE
from bodypose_tools.networks.settings import NetworkConfig, Section
from pose_runtime.skeleton import BODYPOSE_18, Skeleton

from .tao_spec import is_tao_spec, nearest, translate

_LOG = logging.getLogger(__name__)

# Keys that specs had once, by their paths, and why they have gone. A spec that still has one is
# read without it.
REMOVED_KEYS: Final[Mapping[str, str]] = {
    "dataloader.augmentation_config.mosaic_prob": "mosaics changed no score",
}


class ImageDims(Section):
    """Size of the network's input in pixels."""

    height: int = Field(288, multiple_of=STRIDE, gt=0)
    width: int = Field(384, multiple_of=STRIDE, gt=0)


class PoseConfig(Section):
    """Which skeleton is trained."""

    pose_config_path: Path | None = None  # a skeleton's JSON; None: BODYPOSE_18


class Split(Section):
    """One part of a COCO-format data set; paths are relative to `root_data_path`."""

    annotation_path: Path
    images_root_dir_path: Path


class DatasetConfig(Section):
    """The splits of the data set."""

    root_data_path: Path = Path()
    train_data: Split
    val_data: Split | None = None
    train_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="fraction of the training images, chosen by random_seed; a smaller"
        " fraction is a subset of a larger one",
    )


class AugmentationConfig(Section):
    """Random affine and colour changes of each training image.

    An image is first letterboxed as in serving; zoom, rotation and shift are relative to that.
    """

    flip_lr_prob: float = Field(0.5, ge=0, le=1)
    rotate_deg_max: float = Field(30.0, ge=0, le=180)
    zoom_ratio_min: float = Field(0.6, gt=0)
    zoom_ratio_max: float = Field(1.8, gt=0)
    translate_max: float = Field(0.2, ge=0, description="share of the network's input size")
    person_centric_prob: float = Field(0.5, ge=0, le=1, description="centre on a random person")
    color_jitter: float = Field(0.3, ge=0, le=1, description="brightness, contrast, saturation")
    gray_prob: float = Field(0.05, ge=0, le=1)
    identity: bool = Field(False, description="no augmentation; for tests that overfit")

    @model_validator(mode="after")
    def _zoom_is_a_range(self) -> AugmentationConfig:
        if self.zoom_ratio_min > self.zoom_ratio_max:
            raise ValueError("zoom_ratio_min must not exceed zoom_ratio_max")
        return self


class LabelProcessorConfig(Section):
    """How labels are drawn."""

    heatmap_gaussian_sigma: float = Field(5.0, gt=0, description="network pixels, of a shoulder")
    paf_ortho_dist_thresh: float = Field(1.0, gt=0, description="field cells")


class DataloaderConfig(Section):
    """How batches are made."""

    batch_size: int = Field(16, gt=0)
    workers: int = Field(2, gt=0, description="processes that decode, augment and draw labels")
    image_cache_mib: int = Field(
        0, ge=0, description="decoded images kept in shared memory; 0: read from disk every time"
    )
    image_config: ImageDims = ImageDims()
    pose_config: PoseConfig = PoseConfig()
    dataset_config: DatasetConfig
    augmentation_config: AugmentationConfig = AugmentationConfig()
    label_processor_config: LabelProcessorConfig = LabelProcessorConfig()


class LearningRateSchedule(Section):
    """Log-linear ramp up to `soft_start`, flat to `annealing`, log-linear down to the end."""

    soft_start: float = Field(0.05, gt=0, lt=1)
    annealing: float = Field(0.5, gt=0, lt=1)
    base_learning_rate: float = Field(1e-3, gt=0)
    min_learning_rate: float = Field(1e-5, gt=0)


class OptimizerConfig(Section):
    """The optimizer and its learning rate."""

    name: Literal["adamw", "sgd"] = "adamw"
    relative_steps: bool = Field(
        False,
        description="steps in proportion to the size of each filter; for backbones with folded "
        "batch norms, such as MoveNet's",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd only")
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float = Field(10.0, gt=0, description="largest global norm of a gradient")
    ema_momentum: float = Field(0.999, ge=0, lt=1, description="0: no moving average of weights")
    grad_weights_dict: dict[str, float] = Field(
        default_factory=dict,
        description="learning-rate multiplier of the layers whose names start with the key; 0: "
        "frozen",
    )
    learning_rate_schedule: LearningRateSchedule = LearningRateSchedule()


class DistillationConfig(Section):
    """A frozen network whose predictions are a second target."""

    teacher: Path = Field(description="a .keras file, such as the unpruned network")
    weight: float = Field(
        0.5, gt=0, le=1, description="weight of the teacher's predictions; labels have the rest"
    )


class TrainSpec(Section):
    """A whole training spec, the file given to `tools train -e`."""

    random_seed: int = Field(42, ge=0, lt=2**32)
    num_epoch: int = Field(100, gt=0)
    checkpoint_n_epoch: int = Field(5, gt=0, description="epochs between resumable checkpoints")
    validation_every_n_epoch: int = Field(5, gt=0)
    draw_every_n_epoch: int | None = Field(
        None, ge=0, description="epochs between sample predictions; 0: never; None: as validation"
    )
    devices: int = Field(1, ge=0, description="GPUs that share each batch (JAX); 0: all")
    processes: int = Field(
        1, ge=1, description="processes that share each batch (JAX), each with `devices` GPUs"
    )
    pretrained_weights: Path | None = None
    load_graph: bool = Field(False, description="take the graph, too, from pretrained_weights")
    mixed_precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    dataloader: DataloaderConfig
    model: NetworkConfig = NetworkConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    distillation: DistillationConfig | None = None

    @model_validator(mode="after")
    def _graph_needs_weights(self) -> TrainSpec:
        if self.load_graph and self.pretrained_weights is None:
            raise ValueError("load_graph: needs pretrained_weights, a .keras file")
        return self

    @model_validator(mode="after")
    def _sides_fit_the_architecture(self) -> TrainSpec:
        """A loaded graph is checked when it is loaded."""
        image, multiple = self.dataloader.image_config, SIDE_MULTIPLE[self.model.architecture]
        if not self.load_graph and (image.height % multiple or image.width % multiple):
            raise ValueError(
                f"dataloader.image_config: {self.model.architecture} needs sides that are multiples"
                f" of {multiple}, got {image.height} x {image.width}"
            )
        return self

    def validates_after(self, epoch: int) -> bool:
        """Whether the run validates at the end of this epoch; they count from 0."""
        return (epoch + 1) % self.validation_every_n_epoch == 0 or epoch + 1 == self.num_epoch

    def draws_after(self, epoch: int) -> bool:
        """Whether it draws sample predictions then."""
        if self.draw_every_n_epoch is None:
            return self.validates_after(epoch)
        return self.draw_every_n_epoch > 0 and (epoch + 1) % self.draw_every_n_epoch == 0

    def on_devices(self, count: int | None) -> TrainSpec:
        """The same spec on so many GPUs; None: on as many as it says."""
        return self if count is None else self.model_copy(update={"devices": count})

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of `pose_config_path`, or the default one.

        Raises:
            ConfigError: the file is missing, or no skeleton.
        """
        path = self.dataloader.pose_config.pose_config_path
        return BODYPOSE_18 if path is None else load_skeleton(path)


def without_removed_keys(raw: Any) -> tuple[Any, list[str]]:
    """A copy of a spec as it was read, without `REMOVED_KEYS`, and the paths of those it had."""
    kept, found = copy.deepcopy(raw), []
    for path in REMOVED_KEYS:
        *sections, key = path.split(".")
        section = kept
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, dict) and key in section:
            del section[key]
            found.append(path)
    return kept, found


def load_train_spec(path: Path) -> TrainSpec:
    """Read and check a YAML spec. Relative paths in it count from the current folder.

    A key of `REMOVED_KEYS` is logged as a warning and left out. A spec of TAO's is translated.

    Raises:
        ConfigError: naming the key's path, what was expected and what came.
    """
    raw = read_yaml(path)
    if is_tao_spec(raw):
        translation = translate(raw, path, None)
        _LOG.warning(
            "%s: a TAO spec; `tools import-tao-spec` writes it as one of ours and lists the %d keys"
            " that have no meaning here",
            path,
            len(translation.dropped),
        )
        raw = translation.spec
    raw, removed = without_removed_keys(raw)
    for key in removed:
        _LOG.warning("%s: %s is no longer used: %s", path, key, REMOVED_KEYS[key])
    return checked_spec(raw, path)


def checked_spec(raw: Any, origin: Path) -> TrainSpec:
    """A spec as it was read, checked.

    Raises:
        ConfigError: naming `origin`, the key's path, what was expected and what came.
    """
    try:
        return TrainSpec.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(map(_problem, error.errors()))
        raise ConfigError(f"{origin}: {problems}") from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{origin}: expected a spec, got {str(error)[:200]}") from error


def _problem(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors: the key's path and what is wrong; our own name what came."""
    path = "".join(f"{key}." for key in error["loc"]).removesuffix(".")
    if error["type"] == "value_error":
        return ": ".join(filter(None, [path, str(error["ctx"]["error"])]))
    if error["type"] == "extra_forbidden":
        *sections, key = error["loc"]
        return f"{path}: unknown key{nearest(key, _keys_of(sections))}"
    return f"{path}: {error['msg']}, got {error['input']!r:.60}"


def _keys_of(sections: Sequence[int | str]) -> list[str]:
    """The keys that the section at a path of `TrainSpec` has."""
    section: Any = TrainSpec
    for name in sections:
        kinds = [section.model_fields[name].annotation] if name in section.model_fields else []
        kinds += [each for kind in kinds for each in get_args(kind)]
        section = next((each for each in kinds if hasattr(each, "model_fields")), None)
        if section is None:
            return []
    return list(section.model_fields)


def on_fraction(spec: TrainSpec, fraction: float) -> TrainSpec:
    """The same recipe on a share of the training images: as many steps, so more epochs."""
    data = spec.dataloader.dataset_config.model_copy(update={"train_fraction": fraction})
    loader = spec.dataloader.model_copy(update={"dataset_config": data})
    scaled: dict[str, Any] = {
        name: max(1, round(getattr(spec, name) / fraction))
        for name in ("num_epoch", "checkpoint_n_epoch", "validation_every_n_epoch")
    }
    return spec.model_copy(update={"dataloader": loader, **scaled})
