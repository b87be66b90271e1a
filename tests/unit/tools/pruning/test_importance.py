"""Norms of filters, and how layers that are cut alike share one score."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from bodypose_tools.pruning.channel_graph import trace_channels
from bodypose_tools.pruning.importance import channel_scores, weight_stats
from bodypose_tools.pruning.settings import Equalization, Importance, Normalizer

# Two layers make the channels 1 and 2, one makes 0, nobody is scored for 3.
GRAPH = SimpleNamespace(
    num_channels=4,
    weighted={
        "a": SimpleNamespace(outputs=np.array([0, 1, 2])),
        "b": SimpleNamespace(outputs=np.array([2, 1])),
    },
)
STATS = {"a": np.array([3.0, 4.0, 1.0]), "b": np.array([4.0, 9.0])}


@pytest.mark.parametrize(
    ("equalization", "expected"),
    [
        (Equalization.UNION, [3, 9, 4]),
        (Equalization.INTERSECTION, [3, 4, 1]),
        (Equalization.ARITHMETIC_MEAN, [3, 6.5, 2.5]),
        (Equalization.GEOMETRIC_MEAN, [3, 6, 2]),
    ],
)
def test_layers_that_make_the_same_channels_share_a_score(equalization, expected):
    scores = channel_scores(GRAPH, STATS, None, equalization)
    assert scores[:3] == pytest.approx(expected)
    assert np.isnan(scores[3])


def test_a_zero_in_a_geometric_mean_is_the_least_and_no_error():
    scores = channel_scores(
        GRAPH, STATS | {"b": np.array([0.0, 9.0])}, None, Equalization.GEOMETRIC_MEAN
    )
    assert 0 <= scores[2] < 1e-100


@pytest.mark.parametrize(
    ("normalizer", "expected"),
    [
        (Normalizer.MAX, [0.75, 1.0, 0.25]),
        (Normalizer.L2, 3 * np.array([3, 4, 1]) / np.sqrt(26)),
    ],
)
def test_a_layers_norms_are_made_comparable(normalizer, expected):
    stats = {"a": STATS["a"], "b": np.zeros(2)}
    scores = channel_scores(GRAPH, stats, normalizer, Equalization.UNION)
    assert scores[:3] == pytest.approx(expected)


@pytest.fixture(scope="module")
def network():
    images = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 256)(images)
    x = layers.Conv2D(2, 1, use_bias=False, name="first")(x)
    x = layers.BatchNormalization(name="scaled")(x)
    x = layers.Conv2DTranspose(2, 1, use_bias=False, name="second")(x)
    x = layers.BatchNormalization(name="plain", scale=False)(x)
    model = keras.Model(images, layers.Conv2D(1, 1, name="out")(x))
    model.get_layer("first").set_weights([np.float32([[3, 1], [-4, 1], [0, -1]])[None, None]])
    model.get_layer("second").set_weights([np.float32([[1, 2], [-3, 4]])[None, None]])
    _, *rest = model.get_layer("scaled").get_weights()
    model.get_layer("scaled").set_weights([np.float32([-0.5, 2]), *rest])
    return model


@pytest.mark.parametrize(
    ("importance", "first", "second"),
    [
        (Importance.L1, [7, 3], [3, 7]),
        (Importance.L2, [5, np.sqrt(3)], [np.sqrt(5), 5]),
    ],
)
def test_a_filter_has_the_norm_of_its_weights(network, importance, first, second):
    stats = weight_stats(network, trace_channels(network, (32, 32)), importance)
    assert set(stats) == {"first", "second", "out"}
    assert stats["first"] == pytest.approx(first)
    assert stats["second"] == pytest.approx(second)


def test_batch_norms_factor_has_its_size(network):
    stats = weight_stats(network, trace_channels(network, (32, 32)), Importance.BN_GAMMA)
    assert {name: stat.tolist() for name, stat in stats.items()} == {
        "scaled": [0.5, 2],
        "plain": [1, 1],
    }
