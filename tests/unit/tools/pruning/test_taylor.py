"""Taylor importance is the slope of the loss in a gate: checked by turning the gate a little."""

import keras
import numpy as np
import pytest
from keras import layers
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.data.coco import read_coco
from bodypose_tools.networks.keras_files import save_network
from bodypose_tools.pruning.channel_graph import trace_channels
from bodypose_tools.pruning.taylor import taylor_stats
from bodypose_tools.training.samples import Targets
from bodypose_tools.training.setup import chosen_records, training_records, training_stream
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec
from tests.drawn import HEIGHT, WIDTH
from tests.unit.tools.training.test_train import spec_for


def gated_network() -> keras.Model:
    """A layer of each kind that can scale a channel last; `unheard` is read by nobody."""
    keras.utils.set_random_seed(5)
    pixels = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 256, -0.5)(pixels)
    x = layers.Conv2D(8, 3, strides=8, padding="same", name="plain", activation="relu")(x)
    x = layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding="same", name="deep")(x)
    x = layers.Conv2D(6, 1, use_bias=False, name="under_norm")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Conv2DTranspose(5, 2, strides=2, name="up")(layers.ReLU()(x))
    outputs = [
        layers.Conv2D(BODYPOSE_18.num_joints + 1, 1, name="heat_1")(x),
        layers.Conv2D(2 * BODYPOSE_18.num_limbs, 1, name="paf_1")(x),
    ]
    network = keras.Model(pixels, outputs)
    for layer in network.layers:
        if layer.name.startswith(("heat", "paf")):
            kernel, bias = layer.get_weights()
            kernel[:, :, 2] = 0  # of the channels of `up`, number 2 is not heard
            layer.set_weights([kernel, bias + 0.1])
    network.get_layer("plain").trainable = False  # a frozen layer matters, too
    return network


def test_it_is_the_slope_of_the_loss_in_the_gate(drawn_coco):
    network, spec = gated_network(), spec_for(drawn_coco, 2)
    before = network.get_weights()
    graph = trace_channels(network, (HEIGHT, WIDTH))
    stats = taylor_stats(network, graph, spec, training_records(spec), num_batches=1)
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))
    assert not network.get_layer("plain").trainable
    assert set(stats) == {"plain", "deep", "norm", "up", "heat_1", "paf_1"}
    assert {name: len(stat) for name, stat in stats.items() if "_" not in name} == {
        "plain": 8,
        "deep": 16,
        "norm": 6,
        "up": 5,
    }
    assert stats["up"][2] == 0

    split = spec.dataloader.dataset_config
    records = read_coco(drawn_coco / split.train_data.annotation_path, drawn_coco, spec.skeleton)
    with training_stream(spec, chosen_records(spec, records), 8) as stream:
        images, targets = next(iter(stream.batches(0)))
        images, targets = np.array(images), Targets(*(np.float64(part) for part in targets))

    def loss() -> float:
        """Half the squared error, in float64: its slopes are small beside it."""
        said = [np.float64(output) for output in network(images, training=False)]
        wanted = (targets.heatmaps[..., : said[0].shape[-1]], targets.affinity)
        errors = [((a - b) ** 2 * targets.mask).sum() for a, b in zip(said, wanted, strict=True)]
        return 0.5 * sum(errors) / len(images)

    def slope(name: str, channel: int) -> float:
        layer, ends = network.get_layer(name), []
        for factor in (0.99, 1.01):
            whole = layer.get_weights()
            scaled = [turned(name, weight, channel, factor) for weight in whole[:2]]
            layer.set_weights([*scaled, *whole[2:]])  # batch norm's statistics stay
            ends.append(loss())
            layer.set_weights(whole)
        return (ends[1] - ends[0]) / 0.02

    for name in ("plain", "deep", "norm", "up"):
        assert stats[name].max() > 0.1
        for channel in range(4):
            wanted = pytest.approx(abs(slope(name, channel)), rel=0.02, abs=2e-3)
            assert stats[name][channel] == wanted, f"{name}, channel {channel}"


def turned(name: str, weight: np.ndarray, channel: int, factor: float) -> np.ndarray:
    """A layer's weight with one output channel scaled."""
    scaled = weight.copy()
    if name == "up" and weight.ndim == 4:
        scaled[:, :, channel] *= factor
    else:
        scaled.reshape(-1, 16 if name == "deep" else weight.shape[-1])[:, channel] *= factor
    return scaled


def test_the_command_asks_for_a_spec_with_taylor_and_only_then(tmp_path):
    arguments = ["prune", "-m", "whole.keras", "-o", "pruned.keras"]
    for more in (["--importance", "taylor"], ["-e", "spec.yaml"]):
        result = CliRunner().invoke(app, [*arguments, *more])
        assert result.exit_code == 2
        assert "expected -e with --importance taylor" in result.output


def test_the_command_prunes_by_the_loss(drawn_coco, tmp_path):
    whole, pruned = tmp_path / "whole.keras", tmp_path / "pruned.keras"
    save_network(
        gated_network(), whole, "train", PipelineSpec(network_hw=(HEIGHT, WIDTH)), settings={}
    )
    spec = tmp_path / "spec.yaml"  # JSON is YAML
    spec.write_text(spec_for(drawn_coco, 2).model_dump_json())
    files = ["-m", str(whole), "-o", str(pruned), "-e", str(spec)]
    options = ["-nf", "2", "-pg", "1", "--importance", "taylor", "--taylor-batches", "2"]
    result = CliRunner().invoke(app, ["prune", *files, *options, "--target-params", "0.9"])
    assert result.exit_code == 0, result.output
    kept = keras.saving.load_model(pruned, compile=False).get_layer("up").filters
    assert kept < 5  # what is not heard goes first
