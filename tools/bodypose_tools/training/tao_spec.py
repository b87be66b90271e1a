"""TAO's specs of BodyPoseNet, translated: training, inference and data set."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from bodypose_tools.data.skeletons import ConfigError
from bodypose_tools.data.yaml_files import read_yaml
from bodypose_tools.files.atomic_files import atomic_path

_LOADER: Final = "dataloader"
_AUGMENTATION: Final = f"{_LOADER}.augmentation_config"
_SPATIAL: Final = f"{_AUGMENTATION}.spatial_aug_params"
_LABELS: Final = f"{_LOADER}.label_processor_config"
_DIMS: Final = f"{_LOADER}.image_config.image_dims"
_SCHEDULE: Final = "optimizer.learning_rate_schedule"
_DATASET_SPECS: Final = f"{_LOADER}.dataset_config.dataset_specs"
_JOINTS_18: Final = "bpnet_18joints.json"

# Keys that mean the same, by their paths in TAO's spec -> the path in ours.
SAME: Final[Mapping[str, str]] = {
    **{
        name: name
        for name in (
            "random_seed",
            "num_epoch",
            "checkpoint_n_epoch",
            "validation_every_n_epoch",
            f"{_LOADER}.batch_size",
            f"{_LABELS}.heatmap_gaussian_sigma",
            f"{_LABELS}.paf_ortho_dist_thresh",
            "model.stages",
            "model.regularization_type",
            "model.kernel_regularization_factor",
            "optimizer.momentum",
            f"{_SCHEDULE}.soft_start",
            f"{_SCHEDULE}.annealing",
            f"{_SCHEDULE}.base_learning_rate",
            f"{_SCHEDULE}.min_learning_rate",
        )
    },
    f"{_DIMS}.height": f"{_LOADER}.image_config.height",
    f"{_DIMS}.width": f"{_LOADER}.image_config.width",
    f"{_SPATIAL}.flip_lr_prob": f"{_AUGMENTATION}.flip_lr_prob",
    f"{_SPATIAL}.rotate_deg_max": f"{_AUGMENTATION}.rotate_deg_max",
    f"{_SCHEDULE}.learning_rate": f"{_SCHEDULE}.base_learning_rate",
}
# Keys without a meaning here, or sections of them -> why.
WITHOUT_MEANING: Final[Mapping[str, str]] = {
    "checkpoint_dir": "`-r` names the folder of a run",
    "log_every_n_secs": "progress is always shown",
    "summary_every_n_steps": "log.csv has every epoch",
    "infrequent_summary_every_n_steps": "log.csv has every epoch",
    "max_ckpt_to_keep": "the best and the last checkpoint are kept",
    "finetuning_config": "`--resume` continues a run, `pretrained_weights` starts from another",
    "use_stagewise_lr_multipliers": "name layers in `optimizer.grad_weights_dict`",
    f"{_LOADER}.pose_config.target_shape": "an eighth of the input size",
    f"{_LOADER}.image_config.image_encoding": "images are decoded by what they are",
    f"{_LOADER}.dataset_config.train_records_folder_path": "training reads COCO files",
    f"{_LOADER}.dataset_config.train_records_path": "training reads COCO files",
    f"{_LOADER}.dataset_config.val_records_folder_path": "validation reads COCO files",
    f"{_LOADER}.dataset_config.val_records_path": "validation reads COCO files",
    f"{_LOADER}.normalization_params": "the network itself computes image / 256 - 0.5",
    f"{_LOADER}.shuffle_buffer_size": "each epoch shuffles the whole set",
    f"{_SPATIAL}.flip_tb_prob": "nobody is turned upside down",
    f"{_SPATIAL}.rotate_deg_min": "rotation is symmetric",
    f"{_SPATIAL}.zoom_prob": "zoom is relative to the letterboxed image; our defaults stay",
    f"{_SPATIAL}.zoom_ratio_min": "zoom is relative to the letterboxed image; our defaults stay",
    f"{_SPATIAL}.zoom_ratio_max": "zoom is relative to the letterboxed image; our defaults stay",
    f"{_SPATIAL}.translate_min_x": "shifts are symmetric",
    f"{_SPATIAL}.translate_min_y": "shifts are symmetric",
    f"{_SPATIAL}.translate_ratio_min": "shifts are symmetric",
    f"{_SPATIAL}.target_person_scale": "`zoom_ratio_min` and `zoom_ratio_max` set the sizes",
    f"{_AUGMENTATION}.identity_spatial_aug_params": "`identity: true` switches augmentation off",
    f"{_LABELS}.paf_gaussian_sigma": "TAO did not use it, either",
    "model.backbone_attributes": "the backbone is VGG19 with batch norms and without biases",
    "model.heat_channels": "follows from the skeleton",
    "model.paf_channels": "follows from the skeleton",
    "model.use_self_attention": "the network has no attention",
    "model.use_bias": "the heads have biases",
    "model.bias_regularization_factor": "biases are not regularised",
    "model.kernel_initializer": "the heads start from a normal distribution of deviation 0.01",
    f"{_SCHEDULE}.last_step": "the last step is that of the last epoch",
    f"{_SCHEDULE}.decay_epochs": "the schedule is soft-start annealing",
    f"{_SCHEDULE}.decay_rate": "the schedule is soft-start annealing",
    f"{_SCHEDULE}.decay_steps": "the schedule is soft-start annealing",
    f"{_SCHEDULE}.staircase": "the schedule is soft-start annealing",
    "optimizer.weight_default_value": "layers without a multiplier have 1",
    "optimizer.use_nesterov": "momentum is the plain one",
    "loss": "the loss is TAO's squared error over every stage",
    "inference_spec": "`tools evaluate` has options instead",
}
# Keys that are translated by rules of their own, below.
_BY_RULE: Final = (
    "pretrained_weights",
    "load_graph",
    f"{_DIMS}.channels",
    f"{_LOADER}.pose_config.pose_config_path",
    f"{_LOADER}.dataset_config.root_data_path",
    _DATASET_SPECS,
    f"{_AUGMENTATION}.spatial_augmentation_mode",
    f"{_SPATIAL}.translate_max_x",
    f"{_SPATIAL}.translate_max_y",
    f"{_SPATIAL}.use_translate_ratio",
    f"{_SPATIAL}.translate_ratio_max",
    "model.data_format",
    "optimizer.grad_weights_dict",
)
_CLASS: Final = "__class_name__"
_INFERENCE_KEYS: Final[Mapping[str, str]] = {
    "model_path": "it is the model where the line names none",
    "train_spec": "the model file carries what it needs",
    "input_shape": "the model has its input size; `tools export -d H,W,3` chooses another",
    "output_stage_to_use": "the last stage is used",
    "output_upsampling_factor": "peaks are refined below a field cell without upsampling",
    "heatmap_threshold": "TAO did not use it, either; `tools tune-grouping` chooses thresholds",
    "paf_threshold": "TAO did not use it, either; `tools tune-grouping` chooses thresholds",
    "scales": "the scales are 0.5, 1, 1.5 and 2",
}


@dataclass
class Translation:
    """What became of a TAO spec."""

    spec: dict[str, Any] = field(default_factory=dict)  # ours, for `TrainSpec`
    dropped: dict[str, str] = field(default_factory=dict)  # TAO's path -> why

    def put(self, path: str, value: Any) -> None:
        """Set a value of our spec."""
        *sections, key = path.split(".")
        section = self.spec
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value

    def as_yaml(self) -> str:
        """The text of our spec."""
        return yaml.safe_dump(self.spec, sort_keys=False)

    def write(self, path: Path) -> None:
        """Write our spec."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.as_yaml())


@dataclass(frozen=True)
class Splits:
    """The two parts of TAO's data-set spec: (annotations, images) of training and of tests."""

    root: Path
    train: tuple[str, str]
    test: tuple[str, str]


def is_tao_spec(raw: Any) -> bool:
    """Whether a spec as it was read is TAO's: its trainer, or its data-set specs, are named."""
    return isinstance(raw, dict) and (_CLASS in raw or _at(raw, _DATASET_SPECS) is not None)


def is_inference_spec(raw: Any) -> bool:
    """Whether a spec as it was read is for TAO's `evaluate` and `inference`."""
    return isinstance(raw, dict) and not is_tao_spec(raw) and bool({*raw} & {*_INFERENCE_KEYS})


def read_splits(path: Path) -> Splits:
    """The data set of TAO's `-d coco_spec.json`.

    Raises:
        ConfigError: no such file, or a key is missing.
    """
    raw = read_yaml(path)
    parts = []
    for part in ("train_data", "test_data"):
        for key in ("annotation_root_dir_path", "images_root_dir_path"):
            value = _at(raw, f"{part}.{key}")
            if not isinstance(value, str):
                raise ConfigError(f"{path}: expected {part}.{key} of a data-set spec, got {value}")
            parts.append(value)
    root = _at(raw, "root_directory_path") or ""
    return Splits(Path(str(root)), (parts[0], parts[1]), (parts[2], parts[3]))


def evaluation_options(path: Path) -> tuple[list[str], Mapping[str, str]]:
    """The options of `tools evaluate` that mean what TAO's inference spec says.

    Returns:
        The options, and each other key with the reason why it has no meaning here.

    Raises:
        ConfigError: no such file, or a key that TAO has not.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected an inference spec, got {type(raw).__name__}")
    options, dropped = [], {}
    for key, value in raw.items():
        if key == "keep_aspect_ratio_mode":
            if value == "adjust_network_input":
                options.append("--keep-aspect")
            elif value != "pad_image_input":
                dropped[key] = "images are never stretched; they are padded"
        elif key == "multi_scale_inference":
            options += ["--multi-scale"] if value is True else []
        elif key in _INFERENCE_KEYS:
            dropped[key] = _INFERENCE_KEYS[key]
        else:
            known = [*_INFERENCE_KEYS, "keep_aspect_ratio_mode", "multi_scale_inference"]
            raise ConfigError(f"{path}: {key}: unknown key{nearest(key, known)}")
    return options, dropped


def model_path(path: Path) -> str | None:
    """The model that TAO's inference spec names. Raises: ConfigError: no such file."""
    found = _at(read_yaml(path), "model_path")
    return found if isinstance(found, str) else None


def nearest(key: object, known: list[str]) -> str:
    """The words `; did you mean X?`, or nothing when no known key is like this one."""
    like = difflib.get_close_matches(str(key), known, n=1)
    return f"; did you mean {like[0]}?" if like else ""


def translate(raw: Any, origin: Path, dataset_spec: Path | None) -> Translation:
    """Our training spec for TAO's.

    Args:
        raw: TAO's spec as it was read.
        origin: its file; paths in it count from its folder, or from the current one.
        dataset_spec: TAO's data-set spec; None: the one that `raw` names.

    Raises:
        ConfigError: a key that TAO has not, or a value that the network here cannot have.
    """
    if not is_tao_spec(raw):
        raise ConfigError(
            f"{origin}: expected a spec of TAO's, with __class_name__ or {_DATASET_SPECS}"
        )
    out = Translation()
    out.put("model.architecture", "bodypose-vgg19")
    out.put("optimizer.name", "sgd")
    out.put("optimizer.weight_decay", 0.0)
    leaves = dict(_leaves(raw))
    for path, value in leaves.items():
        why = _why_dropped(path)
        if path in SAME:
            out.put(SAME[path], _number(value))
        elif why is not None:
            out.dropped[path] = why
        elif path not in _BY_RULE and not path.endswith(_CLASS):
            key = path.rpartition(".")[2]
            known = [each.rpartition(".")[2] for each in (*SAME, *WITHOUT_MEANING, *_BY_RULE)]
            raise ConfigError(f"{origin}: {path}: unknown key{nearest(key, known)}")
    for rule in (_architecture, _weights, _skeleton, _augmentation, _multipliers):
        rule(leaves, out, origin)
    _data(leaves, out, origin, dataset_spec)
    return out


def _why_dropped(path: str) -> str | None:
    while path:
        if path in WITHOUT_MEANING:
            return WITHOUT_MEANING[path]
        path = path.rpartition(".")[0]
    return None


def _leaves(section: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        path = f"{before}{key}"
        whole = path in (_DATASET_SPECS, "optimizer.grad_weights_dict")
        if isinstance(value, dict) and value and not whole:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _number(value: Any) -> Any:
    """YAML 1.1 reads `2.e-5` as a number and `2e-5` as text; both are meant as numbers."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _positive(leaves: Mapping[str, Any], path: str, default: float, origin: Path) -> float:
    value = _number(leaves.get(path, default))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf"):
        raise ConfigError(f"{origin}: {path}: expected a number of 0 or more, got {value!r:.40}")
    return value


def _at(raw: Any, path: str) -> Any:
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw


def _architecture(leaves: Mapping[str, Any], out: Translation, origin: Path) -> None:
    backbone = leaves.get("model.backbone_attributes.architecture", "vgg")
    if backbone != "vgg":
        raise ConfigError(
            f"{origin}: model.backbone_attributes.architecture: expected vgg, got {backbone}; start"
            " from specs/bodypose-s.yaml"
        )
    if leaves.get("model.data_format", "channels_last") != "channels_last":
        raise ConfigError(f"{origin}: model.data_format: expected channels_last")
    channels = leaves.get(f"{_DIMS}.channels", 3)
    if channels != 3:
        raise ConfigError(f"{origin}: {_DIMS}.channels: expected 3, got {channels}")
    if leaves.get(f"model.{_CLASS}") == "BpNetModel":
        out.dropped[f"model.{_CLASS}"] = "BpNetLiteModel is built, whose branches share layers"


def _weights(leaves: Mapping[str, Any], out: Translation, origin: Path) -> None:
    weights = leaves.get("pretrained_weights")
    if weights is None:
        return
    if Path(str(weights)).suffix in (".keras", ".npz"):
        out.put("pretrained_weights", weights)
        out.put("load_graph", leaves.get("load_graph", False))
        return
    out.dropped["pretrained_weights"] = f"TAO's weights ({weights}) cannot be read"
    if leaves.get("load_graph"):
        out.dropped["load_graph"] = (
            "its network cannot be read: prune one of `tools train`, then run `tools retrain -m`"
        )


def _skeleton(leaves: Mapping[str, Any], out: Translation, origin: Path) -> None:
    path = f"{_LOADER}.pose_config.pose_config_path"
    config = leaves.get(path)
    if config is not None and Path(str(config)).name == _JOINTS_18:
        out.dropped[path] = "TAO's 18 joints are the default"
    elif config is not None:
        out.put(path, config)  # `train` refuses it when it is not a skeleton as written here


def _augmentation(leaves: Mapping[str, Any], out: Translation, origin: Path) -> None:
    mode = leaves.get(f"{_AUGMENTATION}.spatial_augmentation_mode")
    if mode is not None:
        out.put(f"{_AUGMENTATION}.person_centric_prob", float(mode == "person_centric"))
    if leaves.get(f"{_SPATIAL}.use_translate_ratio"):
        shift = leaves.get(f"{_SPATIAL}.translate_ratio_max", 0.2)
    else:
        sides = (("x", "width"), ("y", "height"))
        shifts = [
            _positive(leaves, f"{_SPATIAL}.translate_max_{axis}", 0, origin)
            / (_positive(leaves, f"{_DIMS}.{side}", 256, origin) or 256)
            for axis, side in sides
        ]
        shift = max(shifts)
    if any(path.startswith(_SPATIAL) for path in leaves):
        out.put(f"{_AUGMENTATION}.translate_max", shift)


def _multipliers(leaves: Mapping[str, Any], out: Translation, origin: Path) -> None:
    multipliers = leaves.get("optimizer.grad_weights_dict")
    if multipliers:
        out.put("optimizer.grad_weights_dict", multipliers)


def _data(
    leaves: Mapping[str, Any], out: Translation, origin: Path, dataset_spec: Path | None
) -> None:
    named = leaves.get(_DATASET_SPECS)
    if dataset_spec is None:
        if not isinstance(named, dict) or len(named) != 1:
            raise ConfigError(f"{origin}: {_DATASET_SPECS}: expected one data set, got {named}")
        found = Path(str(next(iter(named.values()))))
        beside = origin.parent / found
        dataset_spec = beside if beside.is_file() else found
        if not dataset_spec.is_file():
            raise ConfigError(
                f"{origin}: {_DATASET_SPECS}: expected a file, got {found}; run `tools"
                " import-tao-spec -d` with the data-set spec"
            )
    splits = read_splits(dataset_spec)
    data = f"{_LOADER}.dataset_config"
    out.put(f"{data}.root_data_path", str(splits.root))
    root = f"{data}.root_data_path"
    if root in leaves and Path(str(leaves[root])) != splits.root:
        out.dropped[root] = f"{dataset_spec} says {splits.root}"
    for name, (labels, images) in (("train_data", splits.train), ("val_data", splits.test)):
        out.put(f"{data}.{name}.annotation_path", labels)
        out.put(f"{data}.{name}.images_root_dir_path", images)
