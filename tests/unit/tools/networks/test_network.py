import keras
import numpy as np
import pytest

from bodypose_tools.networks.network import (
    InputSizeError,
    build_network,
    check_input_size,
    freeze,
    heatmap_stride,
    with_dtype_policy,
)
from bodypose_tools.networks.settings import NetworkConfig
from bodypose_tools.pruning.channel_graph import count_macs
from pose_runtime.skeleton import BODYPOSE_18


def test_vgg19_is_bodyposenets_lite_network():
    network = build_network(NetworkConfig(architecture="bodypose-vgg19"), BODYPOSE_18)
    assert network.count_params() / 1e6 == pytest.approx(16.78, abs=0.005)
    assert count_macs(network, (288, 384)) / 1e9 == pytest.approx(49.6, abs=0.05)


def test_the_small_network_stays_under_its_budget():
    network = build_network(NetworkConfig(), BODYPOSE_18)
    assert count_macs(network, (288, 384)) < 5e9
    assert network.count_params() < 6.2e6  # two files of 2 bytes each within 25 MB


@pytest.mark.parametrize("architecture", ["bodypose-s", "bodypose-vgg19"])
@pytest.mark.parametrize("stages", [2, 4])
def test_every_stage_predicts_both_kinds_of_field(architecture, stages):
    config = NetworkConfig(architecture=architecture, stages=stages)
    network = build_network(config, BODYPOSE_18)
    outputs = network.predict_on_batch(np.zeros((1, 64, 96, 3), np.uint8))
    heat, num_centre_fields = ((16, 24), 2) if architecture == "bodypose-s" else ((8, 12), 0)
    assert [output.shape for output in outputs] == (
        [(1, *heat, 19)] * stages
        + [(1, 8, 12, 38)] * stages
        + [(1, 16, 24, 1), (1, 16, 24, 36)][:num_centre_fields]
    )
    assert heatmap_stride(network) == 64 // heat[0]


def test_a_copy_in_another_precision_has_the_same_weights_and_float32_outputs():
    network = build_network(NetworkConfig(stages=2), BODYPOSE_18)
    copy = with_dtype_policy(network, "mixed_bfloat16")
    assert all(
        np.array_equal(a, b) for a, b in zip(network.get_weights(), copy.get_weights(), strict=True)
    )
    assert {output.dtype for output in copy.outputs} == {"float32"}
    assert copy.get_layer("neck_conv").compute_dtype == "bfloat16"
    back = with_dtype_policy(copy, "float32")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    for one, two in zip(
        network.predict_on_batch(pixels), back.predict_on_batch(pixels), strict=True
    ):
        assert np.array_equal(one, two)


def test_regularisation_of_the_spec_reaches_the_loss():
    config = NetworkConfig(stages=2, kernel_regularization_factor=0.5, regularization_type="l2")
    network = build_network(config, BODYPOSE_18)
    convolutions = [x for x in network.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(network.losses) >= len(
        [x for x in convolutions if not isinstance(x, keras.layers.DepthwiseConv2D)]
    )
    assert all(float(loss) > 0 for loss in network.losses)


def test_what_a_file_had_frozen_is_trained_when_the_spec_says_nothing():
    network = build_network(NetworkConfig(stages=2), BODYPOSE_18)
    variables = len(network.trainable_variables)
    freeze(network, {"stem": 0, "block_": 0.0, "neck": 0.1})
    frozen = with_dtype_policy(network, "float32")  # as from a file
    assert not frozen.get_layer("stem").trainable
    assert frozen.get_layer("neck_conv").trainable
    freeze(frozen, {})
    assert len(frozen.trainable_variables) == variables


@pytest.mark.parametrize(("name", "multiple"), [("bodypose_s", 32), ("bodypose_vgg19", 8)])
def test_an_input_size_must_fit_the_networks_deepest_stride(name, multiple):
    network = keras.Sequential([keras.Input((1,))], name=name)
    check_input_size(network, (10 * multiple, 11 * multiple))

    with pytest.raises(InputSizeError, match=f"multiples of {multiple}, got"):
        check_input_size(network, (10 * multiple, 11 * multiple + 4))
