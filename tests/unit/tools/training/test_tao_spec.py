"""TAO's specs become ours, and what is left out has a reason."""

import json

import pytest
import yaml
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.data.skeletons import ConfigError
from bodypose_tools.training.spec import TrainSpec, load_train_spec
from bodypose_tools.training.tao_spec import read_splits, translate

# Every key that TAO's training spec has, with its usual values.
TAO = """
__class_name__: BpNetTrainer
checkpoint_dir: /runs
log_every_n_secs: 30
checkpoint_n_epoch: 5
num_epoch: 50
summary_every_n_steps: 20
infrequent_summary_every_n_steps: 0
validation_every_n_epoch: 10
max_ckpt_to_keep: 100
random_seed: 7
pretrained_weights: /models/pruned.hdf5
load_graph: True
finetuning_config: {is_finetune_exp: False, checkpoint_path: null, ckpt_epoch_num: 0}
use_stagewise_lr_multipliers: True
dataloader:
  __class_name__: BpNetDataloader
  batch_size: 10
  pose_config:
    __class_name__: BpNetPoseConfig
    target_shape: [32, 32]
    pose_config_path: /configs/bpnet_18joints.json
  image_config: {image_dims: {height: 256, width: 320, channels: 3}, image_encoding: jpg}
  dataset_config:
    root_data_path: /data/
    train_records_folder_path: /data
    train_records_path: [train-fold-000-of-001]
    val_records_folder_path: /data
    val_records_path: [val-fold-000-of-001]
    dataset_specs: {coco: coco_spec.json}
  normalization_params: {image_scale: [256.0], image_offset: [0.5], mask_scale: [255.0]}
  augmentation_config:
    __class_name__: AugmentationConfig
    spatial_augmentation_mode: person_centric
    spatial_aug_params:
      flip_lr_prob: 0.4
      flip_tb_prob: 0.0
      rotate_deg_max: 35.0
      rotate_deg_min: -35.0
      zoom_prob: 0.0
      zoom_ratio_min: 1.0
      zoom_ratio_max: 1.0
      translate_max_x: 40.0
      translate_min_x: -40.0
      translate_max_y: 40.0
      translate_min_y: -40.0
      use_translate_ratio: False
      translate_ratio_max: 0.2
      translate_ratio_min: -0.2
      target_person_scale: 0.6
    identity_spatial_aug_params: null
  label_processor_config:
    {paf_gaussian_sigma: 0.03, heatmap_gaussian_sigma: 7.0, paf_ortho_dist_thresh: 1.5}
  shuffle_buffer_size: 20000
model:
  __class_name__: BpNetLiteModel
  backbone_attributes: {architecture: vgg, mtype: default, use_bias: False}
  stages: 4
  heat_channels: 19
  paf_channels: 38
  use_self_attention: False
  data_format: channels_last
  use_bias: True
  regularization_type: l2
  kernel_regularization_factor: 5.0e-4
  bias_regularization_factor: 0.0
  kernel_initializer: random_normal
optimizer:
  __class_name__: WeightedMomentumOptimizer
  learning_rate_schedule:
    __class_name__: SoftstartAnnealingLearningRateSchedule
    soft_start: 0.06
    annealing: 0.4
    base_learning_rate: 2e-5
    min_learning_rate: 8.e-08
    last_step: null
  grad_weights_dict: null
  weight_default_value: 1.0
  momentum: 0.8
  use_nesterov: False
loss: {__class_name__: BpNetLoss, focal_loss_params: {use_focal_loss: False}}
inference_spec: infer.yaml
"""
DATA = {
    "dataset": "coco",
    "root_directory_path": "/coco",
    "train_data": {
        "images_root_dir_path": "train2017",
        "mask_root_dir_path": "train_mask2017",
        "annotation_root_dir_path": "annotations/train.json",
    },
    "test_data": {
        "images_root_dir_path": "val2017",
        "mask_root_dir_path": "val_mask2017",
        "annotation_root_dir_path": "annotations/val.json",
    },
}


@pytest.fixture
def tao(tmp_path):
    (tmp_path / "coco_spec.json").write_text(json.dumps(DATA))
    (tmp_path / "tao.yaml").write_text(TAO)
    return tmp_path / "tao.yaml"


def changed(tao, old: str, new: str):
    assert old in TAO
    tao.write_text(TAO.replace(old, new))
    return load_train_spec(tao)


def test_a_tao_spec_is_read_as_one_of_ours(tao, caplog):
    spec = load_train_spec(tao)

    assert (spec.num_epoch, spec.random_seed, spec.validation_every_n_epoch) == (50, 7, 10)
    assert (spec.model.architecture, spec.model.stages) == ("bodypose-vgg19", 4)
    assert (spec.model.regularization_type, spec.model.kernel_regularization_factor) == ("l2", 5e-4)
    loader = spec.dataloader
    assert (loader.image_config.height, loader.image_config.width) == (256, 320)
    assert loader.batch_size == 10
    assert str(loader.dataset_config.root_data_path) == "/coco"
    assert str(loader.dataset_config.train_data.images_root_dir_path) == "train2017"
    assert loader.dataset_config.val_data is not None
    assert str(loader.dataset_config.val_data.annotation_path) == "annotations/val.json"
    augmentation = loader.augmentation_config
    assert (augmentation.flip_lr_prob, augmentation.rotate_deg_max) == (0.4, 35)
    assert augmentation.translate_max == 40 / 256
    assert augmentation.person_centric_prob == 1
    assert loader.label_processor_config.heatmap_gaussian_sigma == 7
    assert (spec.optimizer.name, spec.optimizer.momentum) == ("sgd", 0.8)
    schedule = spec.optimizer.learning_rate_schedule
    assert (schedule.base_learning_rate, schedule.min_learning_rate) == (2e-5, 8e-8)
    assert (schedule.soft_start, schedule.annealing) == (0.06, 0.4)
    assert spec.pretrained_weights is None
    assert not spec.load_graph
    assert caplog.text.count("a TAO spec") == 1


def test_every_key_that_is_left_out_has_a_reason(tao):
    dropped = translate(yaml.safe_load(TAO), tao, None).dropped

    assert "COCO files" in dropped["dataloader.dataset_config.train_records_path"]
    assert "cannot be read" in dropped["pretrained_weights"]
    assert "tools retrain -m" in dropped["load_graph"]
    assert all(len(why) > 8 for why in dropped.values())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("num_epoch: 50", "num_epochs: 50", "num_epochs: unknown key; did you mean num_epoch?"),
        ("momentum: 0.8", "momentun: 0.8", "did you mean momentum?"),
        ("architecture: vgg", "architecture: helnet", "expected vgg, got helnet"),
        ("channels: 3", "channels: 1", "expected 3, got 1"),
        ("channels_last", "channels_first", "expected channels_last"),
        ("translate_max_x: 40.0", "translate_max_x: far", "expected a number of 0 or more"),
        ("translate_max_x: 40.0", "translate_max_x: yes", "expected a number of 0 or more"),
        ("num_epoch: 50", "num_epoch: yes", "num_epoch: expected no true or false"),
        ("coco: coco_spec.json", "coco: none.json", "import-tao-spec -d"),
        ("{coco: coco_spec.json}", "{}", "expected one data set"),
        ("batch_size: 10", "batch_size: many", "dataloader.batch_size"),
    ],
)
def test_what_cannot_be_translated_is_one_line(tao, old, new, said):
    with pytest.raises(ConfigError) as error:
        changed(tao, old, new)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_network_of_an_earlier_run_is_kept(tao):
    spec = changed(tao, "/models/pruned.hdf5", "/models/pruned.keras")

    assert str(spec.pretrained_weights) == "/models/pruned.keras"
    assert spec.load_graph


def test_a_skeleton_that_is_not_taos_is_not_forgotten(tao):
    spec = changed(tao, "bpnet_18joints", "hand_21joints")

    with pytest.raises(ConfigError, match="hand_21joints"):
        _ = spec.skeleton


def test_the_command_writes_a_spec_that_train_reads(tao):
    out = tao.with_name("ours.yaml")

    result = CliRunner().invoke(app, ["import-tao-spec", str(tao), "-o", str(out)])

    assert result.exit_code == 0, result.output
    assert load_train_spec(out) == load_train_spec(tao)
    assert "left out: checkpoint_dir: `-r` names" in result.stderr
    assert TrainSpec.model_validate(yaml.safe_load(out.read_text())) == load_train_spec(out)


def test_an_inference_spec_becomes_options_of_evaluate(tao):
    spec = tao.with_name("infer.yaml")
    spec.write_text("multi_scale_inference: True\nscales: [1.0]\npaf_threshold: 0.05\n")

    result = CliRunner().invoke(app, ["import-tao-spec", str(spec)])

    assert result.stdout.strip().endswith("--multi-scale")
    assert "left out: paf_threshold: TAO did not use it" in result.stderr


def test_what_is_no_spec_of_taos_is_refused(tmp_path):
    (tmp_path / "other.yaml").write_text("a: 1\n")

    result = CliRunner().invoke(app, ["import-tao-spec", str(tmp_path / "other.yaml")])

    assert "expected a spec of TAO's" in str(result.exception)


def test_a_data_set_spec_without_its_parts_is_refused(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps({**DATA, "test_data": {}}))

    with pytest.raises(ConfigError, match=r"test_data\.annotation_root_dir_path"):
        read_splits(tmp_path / "data.json")
