"""Heatmaps between MoveNet's and ours, and how MoveNet's heads become ours."""

import numpy as np
import pytest

from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec
from tools.artifacts import Artifact
from tools.config import NetworkConfig
from tools.interpolation import interpolate
from tools.keras_models import load_network, save_network
from tools.movenet_heads import MOVENET_JOINTS, load_heads
from tools.network import build_network

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
        layer.set_weights([RNG.normal(0, 0.5, weights.shape) for weights in layer.get_weights()])
    path = tmp_path_factory.mktemp("trained") / "best.keras"
    pipeline = PipelineSpec(network_hw=(64, 96))
    save_network(network, path, "train", pipeline, settings={"val": {"AP": 0.5}})
    return path


def heatmaps(model) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), np.uint8)
    return np.asarray(load_network(model)[0].predict_on_batch(pixels)[1])


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


@pytest.mark.slow
def test_all_of_the_training_is_the_trained_network(trained, pretrained, tmp_path):
    made = interpolate(trained, pretrained, tmp_path / "all.keras", share=1)
    assert np.allclose(heatmaps(made.path), heatmaps(trained), atol=1e-6)
    assert made.settings["val"] is None  # its AP is not the trained one's


@pytest.mark.slow
def test_none_of_it_is_movenet_except_for_the_joints_that_movenet_lacks(
    trained, pretrained, tmp_path
):
    none = heatmaps(interpolate(trained, pretrained, tmp_path / "none.keras", share=0).path)
    network = load_network(trained)[0]
    for stage in (1, 2):
        layer = network.get_layer(f"heat_{stage}_change")
        layer.set_weights([np.zeros_like(weights) for weights in layer.get_weights()])
    pixels = np.random.default_rng(1).integers(0, 256, (1, 64, 96, 3), np.uint8)
    movenet = np.asarray(network.predict_on_batch(pixels)[1])
    known = [joint for joint in range(18) if joint != NECK]
    assert np.allclose(none[..., known], movenet[..., known], atol=2e-3)
    assert np.abs(none[..., NECK] - movenet[..., NECK]).max() > 0.01
