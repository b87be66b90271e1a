"""Training on two drawn images; tests/long/test_learning.py does it to the end."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from bodypose_tools.data.coco import DatasetError
from bodypose_tools.data.labels import UNKNOWN
from bodypose_tools.networks.fields import Fields
from bodypose_tools.networks.keras_files import ModelFileError, load_network
from bodypose_tools.networks.settings import HeatmapLoss, NetworkConfig
from bodypose_tools.training.loss import field_loss
from bodypose_tools.training.optimizers import SoftstartAnnealing, build_optimizer
from bodypose_tools.training.samples import Targets
from bodypose_tools.training.spec import OptimizerConfig, TrainSpec
from bodypose_tools.training.train import train
from pose_runtime.skeleton import BODYPOSE_18
from tests.drawn import HEIGHT, WIDTH


def spec_for(folder: Path, num_epoch: int, **changes: object) -> TrainSpec:
    split = {"annotation_path": "people.json", "images_root_dir_path": "."}
    raw = {
        "num_epoch": num_epoch,
        "checkpoint_n_epoch": 2,
        "validation_every_n_epoch": num_epoch,
        "dataloader": {
            "batch_size": 2,
            "workers": 1,
            "image_config": {"height": HEIGHT, "width": WIDTH},
            "dataset_config": {
                "root_data_path": folder,
                "train_data": split,
                "val_data": split,
            },
            "augmentation_config": {"identity": True},
        },
        "model": {"architecture": "bodypose-s", "stages": 2},
        "optimizer": {
            "ema_momentum": 0,
            "learning_rate_schedule": {
                "annealing": 0.3,
                "base_learning_rate": 3e-3,
                "min_learning_rate": 1e-6,
            },
        },
    }
    return TrainSpec.model_validate(raw | changes)


def from_network(model: Path) -> dict[str, object]:
    """The changes of `spec_for` that train the network of this file, not `bodypose-s`."""
    return {"pretrained_weights": model, "load_graph": True}


def test_an_unreadable_image_is_named(drawn_coco, tmp_path):
    content = json.loads((drawn_coco / "people.json").read_text())
    for image in content["images"]:
        (tmp_path / image["file_name"]).write_bytes(b"not an image")
    (tmp_path / "people.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"image \d .*png"):
        train(spec_for(tmp_path, 2), tmp_path / "run", resume=False, say=lambda line: None)


def test_fewer_images_than_a_batch_are_refused(drawn_coco, tmp_path):
    spec = spec_for(drawn_coco, 2)
    loader = spec.dataloader.model_copy(update={"batch_size": 3})
    with pytest.raises(DatasetError, match="expected at least one batch of 3, got 2"):
        train(
            spec.model_copy(update={"dataloader": loader}),
            tmp_path,
            resume=False,
            say=lambda line: None,
        )


def targets(**changes: np.ndarray) -> Targets:
    """Nobody in two by two cells of affinity; the left column counts."""
    mask = np.zeros((1, 2, 2, 1), np.float32)
    mask[:, :, 0] = 1
    empty = {"heatmaps": (1, 2, 2, 20), "affinity": (1, 2, 2, 38), "people": (1, 3, 19, 3)}
    fields = {name: np.zeros(shape, np.float32) for name, shape in empty.items()}
    return Targets(**{**fields, "mask": mask, **changes})


def test_the_loss_counts_every_stage_where_the_mask_is_one():
    wanted = np.zeros((1, 2, 2, 20), np.float32)
    wanted[0, 0, 0, 0] = 1  # one heatmap cell is wanted there
    heat, paf = np.zeros((1, 2, 2, 19), np.float32), np.zeros((1, 2, 2, 38), np.float32)
    target = targets(heatmaps=wanted)
    assert float(field_loss(target, Fields.of([heat, heat, paf, paf]))) == pytest.approx(2 * 0.5)
    wrong_in_the_right_column = heat.copy()
    wrong_in_the_right_column[0, :, 1] = 5
    said = Fields.of([wrong_in_the_right_column, paf])
    assert float(field_loss(target, said)) == pytest.approx(0.5)


def test_where_labels_do_not_know_a_wrong_answer_costs_a_tenth():
    wanted = np.zeros((1, 2, 2, 20), np.float32)
    heat, paf = np.zeros((1, 2, 2, 19), np.float32), np.zeros((1, 2, 2, 38), np.float32)
    heat[0, 0, 0, 3] = 1  # a joint where nobody labelled one
    said = Fields.of([heat, paf])
    sure = float(field_loss(targets(heatmaps=wanted), said))
    wanted[0, :, 0, 3] = UNKNOWN
    assert float(field_loss(targets(heatmaps=wanted), said)) == pytest.approx(sure / 10)
    assert float(field_loss(targets(heatmaps=wanted), Fields.of([0 * heat, paf]))) == 0


def test_the_focal_loss_lets_a_high_peak_be_broad_where_the_cross_entropy_does_not():
    wanted, heat = (np.zeros((1, 2, 2, depth), np.float32) for depth in (20, 19))
    paf, centre, offsets = (np.zeros((1, 2, 2, depth), np.float32) for depth in (38, 1, 36))

    def loss(kind: HeatmapLoss, labelled: tuple[float, float], found: tuple[float, float]) -> float:
        wanted[0, :, 0, 3], heat[0, :, 0, 3] = labelled, found
        said = Fields.of([heat, paf, centre, offsets])
        return float(field_loss(targets(heatmaps=wanted), said, kind))

    for found in (0.1, 0.5):  # CornerNet's equation 1, halved
        expected = -0.5 * (1 - found) ** 2 * np.log(found)
        assert loss("focal", (1, 0), (found, 0)) == pytest.approx(expected, rel=1e-3)
    slope = 1, 0.5
    assert loss("focal", slope, (0.9, 0.9)) - loss("focal", slope, (0.9, 0.5)) < 0.05
    broad, narrow = (loss("cross_entropy", slope, (0.9, beside)) for beside in (0.9, 0.5))
    assert broad - narrow > 0.2


def test_a_network_without_centres_has_no_focal_loss():
    with pytest.raises(ValueError, match="heatmap_loss: bodypose-vgg19 is trained with"):
        NetworkConfig(architecture="bodypose-vgg19", heatmap_loss="focal")


def test_perfect_centres_cost_nothing_and_offsets_count_in_shares_of_a_person():
    people = np.zeros((1, 3, 19, 3), np.float32)
    people[0, 0, 0] = 6, 6, 1  # the centre; cells are 4 pixels, so it lies in cell (1, 1)
    people[0, 0, 1] = 14, 6, 2  # one joint, two cells to the right
    heat, paf = np.zeros((1, 4, 4, 19), np.float32), np.zeros((1, 2, 2, 38), np.float32)
    centre, offsets = np.zeros((1, 4, 4, 1), np.float32), np.zeros((1, 4, 4, 36), np.float32)
    target = targets(people=people, heatmaps=np.zeros((1, 4, 4, 20), np.float32))
    offsets[0, 1, 1, 0] = 2
    assert float(field_loss(target, Fields.of([heat, paf, centre, offsets]))) == pytest.approx(0)
    offsets[0, 1, 1, 0] = 3  # wrong by one cell, of a person of at least four
    loss = float(field_loss(target, Fields.of([heat, paf, centre, offsets])))
    assert loss == pytest.approx(0.5 / 4)
    offsets[0, 1, 1, 2] = 9  # a joint that nobody labelled
    assert float(field_loss(target, Fields.of([heat, paf, centre, offsets]))) == pytest.approx(loss)


def test_the_learning_rate_rises_stays_and_falls():
    schedule = SoftstartAnnealing(1e-2, 1e-4, soft_start=0.1, annealing=0.5, steps=100)
    rates = [float(schedule(step)) for step in (0, 5, 10, 30, 50, 75, 100)]
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2, 1e-2, 1e-2, 1e-3, 1e-4], rel=1e-4)


def test_a_keras_file_without_record_is_refused(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"something")
    with pytest.raises(ModelFileError, match=r"expected a record model.keras.json"):
        load_network(tmp_path / "model.keras")


def test_the_default_spec_is_about_the_default_skeleton(drawn_coco):
    assert spec_for(drawn_coco, 2).skeleton == BODYPOSE_18


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_every_optimizer_knows_multipliers_and_decay(name):
    config = OptimizerConfig(name=name, weight_decay=0.5, grad_weights_dict={"slow": 0.1})
    layers = [keras.layers.Dense(1, name=name) for name in ("slow", "fast")]
    for layer in layers:
        layer.build((None, 1))
        layer.kernel.assign([[0.0]])
    optimizer = build_optimizer(config, steps=10)
    kernels = [layer.kernel for layer in layers]
    optimizer.build(kernels)
    assert optimizer.weight_decay == 0.5
    optimizer.apply([keras.ops.ones((1, 1))] * 2)
    slow, fast = (float(kernel[0, 0]) for kernel in kernels)
    assert fast < 0
    assert slow == pytest.approx(fast / 10, rel=1e-4)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_relative_steps_are_shares_of_each_filter(name):
    """Folded batch norms leave filters of very different sizes; the small ones must survive."""
    config = OptimizerConfig(name=name, weight_decay=0, clip_norm=1e9, relative_steps=True)
    optimizer = build_optimizer(config, steps=10)
    start = np.ones((3, 3, 2, 4), np.float32) * np.array([1e-4, 0.1, 10, 0], np.float32)
    small_and_large = np.array([[1e-4], [10]], np.float32)
    kernel = keras.Variable(start)
    depthwise = keras.Variable(np.ones((3, 3, 2, 1), np.float32) * small_and_large)
    bias = keras.Variable(np.full(4, 5.0, np.float32))
    optimizer.build([kernel, depthwise, bias])
    gradients = [keras.ops.ones(variable.shape) for variable in (kernel, depthwise, bias)]
    before = depthwise.numpy()
    optimizer.apply(gradients)
    steps = (start - kernel.numpy())[0, 0, 0]
    rate = steps[1] / 0.1
    assert rate > 0
    assert steps == pytest.approx(rate * np.array([1e-4, 0.1, 10, 1]), rel=0.02)
    moved = (before - depthwise.numpy())[0, 0, :, 0]
    assert moved == pytest.approx(rate * np.array([1e-4, 10]), rel=0.02)
    assert 5 - bias.numpy() == pytest.approx(rate, rel=0.05)


def test_a_missing_validation_image_is_named_before_the_first_step(drawn_coco, tmp_path):
    content = json.loads((drawn_coco / "people.json").read_text())
    content["images"][1]["file_name"] = "gone.png"
    (tmp_path / "some.json").write_text(json.dumps(content))
    raw = spec_for(drawn_coco, 1).model_dump()
    raw["dataloader"]["dataset_config"]["val_data"]["annotation_path"] = tmp_path / "some.json"
    spec = TrainSpec.model_validate(raw)
    with pytest.raises(DatasetError, match=r"images of some\.json, got no gone\.png there"):
        train(spec, tmp_path / "run", resume=False, say=lambda line: None)
