import re
from pathlib import Path

import pytest

from bodypose_tools.data.skeletons import ConfigError, load_skeleton
from bodypose_tools.training.spec import load_train_spec
from pose_runtime.skeleton import BODYPOSE_18

ROOT = Path(__file__).parents[4]
MINIMAL = """
dataloader:
  dataset_config:
    train_data: {annotation_path: a.json, images_root_dir_path: images}
"""


def complaint_about(tmp_path: Path, text: str) -> str:
    (tmp_path / "spec.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_train_spec(tmp_path / "spec.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "specs").glob("*.yaml")), ids=lambda p: p.name)
def test_specs_in_the_repository_are_valid(path):
    assert load_train_spec(path).skeleton == BODYPOSE_18


def test_a_spec_needs_only_its_data(tmp_path):
    (tmp_path / "spec.yaml").write_text(MINIMAL)
    spec = load_train_spec(tmp_path / "spec.yaml")
    assert (spec.model.architecture, spec.model.stages) == ("bodypose-s", 3)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ("num_epoch: 0", "num_epoch: Input should be greater than 0, got 0"),
        ("model: {stages: 8}", "model.stages"),
        ("model: {architecture: resnet}", "model.architecture"),
        ("model: {beta: 1}", "model.beta: unknown key"),
        ("paf_gaussian_sigma: 0.03", "paf_gaussian_sigma: unknown key"),
        ("num_epochs: 3", "num_epochs: unknown key; did you mean num_epoch?"),
        ("optimizer: {momentun: 1}", "optimizer.momentun: unknown key; did you mean momentum?"),
        ("load_graph: true", "load_graph: needs pretrained_weights"),
        ("num_epoch: yes", "num_epoch: expected no true or false, got True"),
        ("optimizer: {grad_weights_dict: {stem: off}}", "expected no true or false"),
        ("optimizer: {momentum: on}", "optimizer.momentum: expected no true or false"),
        ("num_epoch: 3\nnum_epoch: 4", "the key 'num_epoch' twice, in lines 5 and 6"),
        ("a: b: c", "expected YAML"),
    ],
)
def test_a_wrong_key_is_named_by_its_path(tmp_path, change, path):
    assert path in complaint_about(tmp_path, MINIMAL + change)


def test_a_removed_key_is_one_line_and_the_spec_is_read_without_it(tmp_path, caplog):
    text = MINIMAL + "  augmentation_config: {mosaic_prob: 0.5, gray_prob: 0.25}\n"
    (tmp_path / "spec.yaml").write_text(text)

    spec = load_train_spec(tmp_path / "spec.yaml")

    assert spec.dataloader.augmentation_config.gray_prob == 0.25
    (line,) = caplog.messages
    assert "mosaic_prob is no longer used" in line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("architecture", "height", "multiple"), [("bodypose-s", 296, 32), ("bodypose-vgg19", 292, 8)]
)
def test_sides_must_fit_the_architecture(tmp_path, architecture, height, multiple):
    image = f"dataloader:\n  image_config: {{height: {height}, width: 384}}"
    text = MINIMAL.replace("dataloader:", image) + f"model: {{architecture: {architecture}}}\n"
    assert re.search(rf"multiples? of {multiple}\b", complaint_about(tmp_path, text))


def test_sides_that_fit_one_architecture_may_not_fit_another(tmp_path):
    image = "dataloader:\n  image_config: {height: 296, width: 384}"
    text = MINIMAL.replace("dataloader:", image) + "model: {architecture: bodypose-vgg19}\n"
    (tmp_path / "spec.yaml").write_text(text)
    assert load_train_spec(tmp_path / "spec.yaml").dataloader.image_config.height == 296


def test_an_empty_spec_says_what_is_missing(tmp_path):
    assert "spec.yaml" in complaint_about(tmp_path, "")


def test_a_spec_that_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(ConfigError, match="got nothing there"):
        load_train_spec(tmp_path / "no.yaml")


def test_a_skeleton_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "skeleton.json").write_text("{")
    with pytest.raises(ConfigError, match="expected a skeleton's JSON"):
        load_skeleton(tmp_path / "skeleton.json")
