"""Heatmaps between MoveNet's and ours, how MoveNet's heads become ours, and image pyramids."""

import keras
import numpy as np
import pytest

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.networks.image_pyramid import PyramidError, add_pyramid, remove_pyramid
from bodypose_tools.networks.keras_files import load_network, save_network
from bodypose_tools.networks.network import InputSizeError, build_network
from bodypose_tools.networks.settings import NetworkConfig
from bodypose_tools.pretrained.interpolation import InterpolationError, interpolate
from bodypose_tools.pretrained.movenet_heads import MOVENET_JOINTS, load_heads
from bodypose_tools.pruning.channel_graph import count_macs
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec

RNG = np.random.default_rng(0)
NECK, NOSE = BODYPOSE_18.joints.index("neck"), BODYPOSE_18.joints.index("nose")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Heads with MoveNet's shapes and random numbers."""
    path = tmp_path_factory.mktemp("heads") / "heads.npz"
    arrays = {}
    for head, channels in (("kpt", 17), ("center", 1), ("regress", 34)):
        arrays[f"head_{head}_output/kernel"] = RNG.normal(0, 0.1, (1, 1, 96, channels))
        arrays[f"head_{head}_output/bias"] = RNG.normal(size=channels)
    np.savez(path, **{key: value.astype(np.float16) for key, value in arrays.items()})
    Artifact.record(path, "import-backbone", settings={})
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pretrained):
    network = build_network(NetworkConfig(stages=2), BODYPOSE_18)
    load_heads(network, pretrained, BODYPOSE_18)
    for stage in (1, 2):
        layer = network.get_layer(f"heat_{stage}_change")
        layer.set_weights([RNG.normal(0, 0.2, weights.shape) for weights in layer.get_weights()])
    path = tmp_path_factory.mktemp("trained") / "best.keras"
    pipeline = PipelineSpec(network_hw=(64, 96))
    save_network(network, path, "train", pipeline, settings={"val": {"AP": 0.5}})
    return path


def test_heads_are_found_by_the_names_of_their_joints(pretrained):
    network = build_network(NetworkConfig(stages=2), BODYPOSE_18)
    assert load_heads(network, pretrained, BODYPOSE_18) == [
        "heat_0_logits",
        "centre_logits",
        "offsets",
    ]
    arrays = np.load(pretrained)
    kernel = np.asarray(network.get_layer("heat_0_logits").kernel)[0, 0]
    wrist = BODYPOSE_18.joints.index("left_wrist")
    source = arrays["head_kpt_output/kernel"][0, 0].astype(np.float32)
    assert np.allclose(kernel[:, wrist], source[:, MOVENET_JOINTS.index("left_wrist")])
    # Offsets: ours x, y, theirs y, x; the neck lies between the shoulders.
    offsets = np.asarray(network.get_layer("offsets").kernel)[0, 0].reshape(96, 18, 2)
    regress = arrays["head_regress_output/kernel"][0, 0].astype(np.float32).reshape(96, 17, 2)
    nose = MOVENET_JOINTS.index("nose")
    assert np.allclose(offsets[:, NOSE], regress[:, nose, ::-1])
    shoulders = [MOVENET_JOINTS.index(f"{side}_shoulder") for side in ("left", "right")]
    assert np.allclose(offsets[:, NECK], regress[:, shoulders].mean(axis=1)[:, ::-1], atol=1e-6)


def logits(heatmaps: np.ndarray) -> np.ndarray:
    return np.log(heatmaps / (1 - heatmaps))


def answers(path, pixels):
    return [np.asarray(output) for output in load_network(path)[0].predict_on_batch(pixels)]


@pytest.fixture(scope="module")
def first(trained, pretrained):
    """MoveNet's heatmaps, one stage."""
    return interpolate(trained, trained.with_name("first.keras"), 0, pretrained, stages=1).path


@pytest.fixture(scope="module")
def both(first):
    """The same, and what a copy of twice the size says."""
    return add_pyramid(first, first.with_name("both.keras"), 2)


def some_pixels(height=64, width=96):
    return np.random.default_rng(1).integers(0, 256, (1, height, width, 3), np.uint8)


def test_known_joints_lie_between_the_first_and_the_last_heatmaps(trained, pretrained, tmp_path):
    made = interpolate(trained, tmp_path / "some.keras", 0.25, pretrained)
    assert made.settings["val"] is None  # its AP is not the trained one's
    network = load_network(trained)[0]
    both = keras.Model(network.input, [network.get_layer("heat_0").output, *network.outputs])
    first, *before = (np.asarray(output) for output in both.predict_on_batch(some_pixels()))
    after = answers(made.path, some_pixels())
    known = [joint for joint in range(18) if joint != NECK]
    between = 0.75 * logits(first) + 0.25 * logits(before[1])
    assert np.allclose(logits(after[1])[..., known], between[..., known], atol=1e-3)
    assert np.allclose(after[1][..., [NECK, 18]], before[1][..., [NECK, 18]], atol=1e-6)
    others = [index for index in range(len(before)) if index != 1]
    assert all(np.allclose(after[index], before[index], atol=1e-6) for index in others)


def test_heads_become_movenets_again(trained, pretrained, tmp_path):
    network, pipeline, _ = load_network(trained)
    for name in ("heat_0_logits", "centre_logits", "offsets"):
        layer = network.get_layer(name)
        layer.set_weights([weights + 1 for weights in layer.get_weights()])
    path = tmp_path / "changed.keras"
    save_network(network, path, "train", pipeline, settings={})
    made = interpolate(path, tmp_path / "some.keras", 0, pretrained)
    after, wanted = answers(made.path, some_pixels()), answers(trained, some_pixels())
    assert np.allclose(after[-2], wanted[-2], atol=1e-3)  # centres
    assert np.allclose(after[-1], wanted[-1], atol=1e-2)  # offsets


def test_the_first_stages_can_be_kept(trained, pretrained, tmp_path):
    made = interpolate(trained, tmp_path / "one.keras", 1, pretrained, stages=1)
    after, before = answers(made.path, some_pixels()), answers(trained, some_pixels())
    assert len(after) == 4
    kept = [before[0], before[2], before[4], before[5]]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(after, kept, strict=True))
    with pytest.raises(InterpolationError, match="3 stages or more, got bodypose_s of 2"):
        interpolate(trained, tmp_path / "three.keras", 1, pretrained, stages=3)


def test_heatmaps_are_the_mean_of_the_image_and_a_larger_copy(first, both, tmp_path):
    assert both.settings["image_pyramid"] == {"scale": 2, "share": 0.5}
    pixels = np.full((1, 64, 96, 3), 90, np.uint8)
    pixels[:, :, 48:] = 160  # of two colours: its larger copy needs no resizing code to be made
    wide = np.full((1, 128, 192, 3), 90, np.uint8)
    wide[:, :, 96:] = 160
    small, large, mean = (
        answers(path, image)
        for path, image in ((first, pixels), (first, wide), (both.path, pixels))
    )
    known = [joint for joint in range(18) if joint != NECK]
    halves = logits(large[0]).reshape(1, 16, 2, 24, 2, 19).mean(axis=(2, 4))
    between = (logits(small[0]) + halves) / 2
    away = [column for column in range(24) if not 8 <= column < 16]  # from the edge of the colours
    assert np.allclose(
        logits(mean[0])[:, :, away][..., known], between[:, :, away][..., known], atol=2e-3
    )
    assert all(np.allclose(mean[index], small[index], atol=1e-6) for index in (1, 2, 3))
    with pytest.raises(PyramidError, match="got one with it"):
        add_pyramid(both.path, tmp_path / "again.keras", 2)


def test_the_share_is_the_weight_of_the_copy(first, tmp_path):
    made = add_pyramid(first, tmp_path / "quarter.keras", 0.5, share=0.25)
    assert made.settings["image_pyramid"] == {"scale": 0.5, "share": 0.25}
    assert load_network(made.path)[0].get_layer("heat_half").scale == 0.25


def test_a_pyramid_may_come_with_another_input_size(first, tmp_path):
    made = add_pyramid(first, tmp_path / "wide.keras", 0.5, network_hw=(96, 160))
    assert load_network(made.path)[1].network_hw == (96, 160)
    less = remove_pyramid(made.path, tmp_path / "less.keras", (64, 96))
    assert load_network(less.path)[1].network_hw == (64, 96)
    with pytest.raises(InputSizeError, match="multiples of 32, got 90 x 160"):
        add_pyramid(first, tmp_path / "odd.keras", 0.5, network_hw=(90, 160))


def test_without_its_pyramid_a_network_is_the_one_that_it_was_added_to(first, both, tmp_path):
    made = remove_pyramid(both.path, tmp_path / "less.keras")
    assert "image_pyramid" not in made.settings
    assert made.settings["val"] is None
    pairs = zip(answers(made.path, some_pixels()), answers(first, some_pixels()), strict=True)
    assert all(np.array_equal(after, before) for after, before in pairs)
    with pytest.raises(PyramidError, match="expected a bodypose-s with a pyramid"):
        remove_pyramid(made.path, tmp_path / "again.keras")


def test_a_layer_that_is_called_twice_counts_twice(first, both):
    network = load_network(first)[0]
    head = keras.Model(network.input, network.get_layer("heat_0_logits").output)
    once = count_macs(network, (64, 96))
    assert count_macs(load_network(both.path)[0], (64, 96)) == once + 4 * count_macs(head, (64, 96))
