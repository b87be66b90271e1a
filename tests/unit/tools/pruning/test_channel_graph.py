"""Pruning holds for graphs nobody thought of: random ones, of every layer that it knows."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from bodypose_tools.pruning.channel_graph import (
    ChannelGraph,
    UnknownLayerError,
    count_macs,
    rebuild,
    trace_channels,
)

HW = (16, 24)
WIDTHS = (3, 4, 6)
SEEDS = st.integers(0, 2**32 - 1)
ALONE = (
    "conv",
    "conv_strided",
    "conv_shared",
    "conv_transposed",
    "depthwise",
    "depthwise_twice",
    "batch_norm",
    "activation",
    "max_pool",
    "average_pool",
    "upsampling",
)
QUICK = settings(max_examples=12, deadline=None, derandomize=True, database=None)


# Keras draws random numbers, which a composite strategy must not; so tests draw piece by piece.
def random_network(draw: Callable) -> keras.Model:
    """A functional network of 3 to 12 random layers between pixels and one or two outputs."""
    images = keras.Input((*HW, 3), name="pixels")
    tensors = [layers.Conv2D(4, 3, padding="same")(layers.Rescaling(0.1)(images))]
    convolutions: list[layers.Conv2D] = []
    for _ in range(draw(st.integers(3, 12))):
        x = tensors[draw(st.integers(max(0, len(tensors) - 3), len(tensors) - 1))]
        kind = draw(st.sampled_from([*ALONE, "concat", "add"]))
        if kind in ("concat", "add"):
            y = met(draw, kind, x, tensors)
        else:
            y = after(draw, kind, x, convolutions)
        tensors.append(y)
    outputs = [layers.Conv2D(2, 1, name="out")(tensors[-1])]
    if draw(st.booleans()):
        outputs.append(tensors[-1])  # then its channels must stay
    model = keras.Model(images, outputs)
    rng = np.random.default_rng(draw(SEEDS))
    for layer in model.layers:
        layer.set_weights([some_weights(rng, weight.shape) for weight in layer.get_weights()])
    return model


def some_weights(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers that keep activations near 1: kernels of any sign, vectors above 0."""
    if len(shape) == 1:
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 1 / np.sqrt(np.prod(shape[:3])), shape)


def after(draw: Callable, kind: str, x: object, convolutions: list[layers.Conv2D]) -> object:
    width = draw(st.sampled_from(WIDTHS))
    match kind:
        case "conv" | "conv_strided":
            strides = 2 if kind == "conv_strided" and min(x.shape[1:3]) > 4 else 1
            convolutions.append(layers.Conv2D(width, 3, strides=strides, padding="same"))
            return convolutions[-1](x)
        case "conv_shared":
            fitting = [c for c in convolutions if c.kernel.shape[2] == x.shape[-1]]
            return draw(st.sampled_from(fitting))(x) if fitting else x
        case "conv_transposed":
            strides = 2 if x.shape[1] < HW[0] else 1
            return layers.Conv2DTranspose(width, 2, strides=strides, padding="same")(x)
        case "depthwise" | "depthwise_twice":
            times = 2 if kind == "depthwise_twice" and x.shape[-1] < 12 else 1
            return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=times)(x)
        case "batch_norm":
            return layers.BatchNormalization()(x)
        case "activation":
            return layers.Activation(draw(st.sampled_from(["relu6", "sigmoid", "silu", "tanh"])))(x)
        case "max_pool":
            return layers.MaxPooling2D(3, strides=1, padding="same")(x)
        case "average_pool":
            return layers.AveragePooling2D(2, padding="same")(x) if min(x.shape[1:3]) > 4 else x
        case "upsampling":
            return layers.UpSampling2D(2, interpolation="bilinear")(x) if x.shape[1] < HW[0] else x
    raise AssertionError(kind)


def met(draw: Callable, kind: str, x: object, tensors: list) -> object:
    """`x` with an earlier tensor of its size, or with itself; a sum needs its width, too."""
    same = slice(1, 4) if kind == "add" else slice(1, 3)
    other = draw(st.sampled_from([t for t in tensors if t.shape[same] == x.shape[same]]))
    return (layers.Add() if kind == "add" else layers.Concatenate())([x, other])


def pixels() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 10, (2, *HW, 3)).astype(np.float32)


def answers(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(output) for output in keras.tree.flatten(model(pixels()))]


def masked(network: keras.Model, graph: ChannelGraph, keep: np.ndarray) -> keras.Model:
    """The whole network; after every layer, the channels that leave are multiplied by 0."""
    masks = iter([keep[call.outputs].astype(np.float32) for call in graph.calls])

    def call(layer: layers.Layer, *args: object, **kwargs: object) -> object:
        return layer(*args, **kwargs) * next(masks)

    copy = keras.models.clone_model(network, call_function=call)
    for layer in network.layers:
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def check(network: keras.Model, seed: int) -> None:
    graph = trace_channels(network, HW)
    everything = graph.keep_all()
    for one, two in zip(
        answers(network), answers(rebuild(network, graph, everything)), strict=True
    ):
        assert np.array_equal(one, two)
    assert graph.count_params(everything) == network.count_params()

    keep = graph.protected | (np.random.default_rng(seed).random(graph.num_channels) < 0.6)
    for layer in graph.weighted.values():  # no layer may lose everything
        if not keep[layer.outputs].any():
            keep[layer.outputs[0]] = True
    pruned = rebuild(network, graph, keep)
    assert pruned.count_params() == graph.count_params(keep)
    for one, two in zip(answers(pruned), answers(masked(network, graph, keep)), strict=True):
        assert np.allclose(one, two, atol=1e-5, rtol=1e-5)


@QUICK
@given(st.data())
def test_a_pruned_random_graph_is_the_whole_one_with_channels_masked(data):
    check(random_network(data.draw), data.draw(SEEDS))


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (layers.LayerNormalization(name="strange"), "LayerNormalization"),
        (layers.SeparableConv2D(4, 3, padding="same", name="strange"), "SeparableConv2D"),
        (layers.Conv2D(4, 1, activation="softmax", name="strange"), "softmax"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(layer, kind):
    images = keras.Input((*HW, 3))
    x = layer(layers.Conv2D(4, 1)(images))
    with pytest.raises(UnknownLayerError, match=rf"^strange: .*got {kind}"):
        trace_channels(keras.Model(images, layers.Conv2D(2, 1)(x)), HW)


def test_a_layer_of_the_users_own_is_refused_by_name_even_when_it_is_a_convolution():
    class GatedConv2D(layers.Conv2D):
        def call(self, inputs: object) -> object:
            return super().call(inputs) * keras.ops.mean(inputs)

    images = keras.Input((*HW, 3))
    x = GatedConv2D(4, 1, name="own")(images)
    with pytest.raises(UnknownLayerError, match=r"^own: .*got GatedConv2D"):
        trace_channels(keras.Model(images, layers.Conv2D(2, 1)(x)), HW)


def every_kind() -> keras.Model:
    """Of images of any size: strided, depthwise, transposed and pointwise convolutions."""
    images = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 256)(images)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="strided")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", name="deep")(x)
    x = layers.Conv2DTranspose(5, 2, strides=2, name="up")(x)
    return keras.Model(images, layers.Conv2D(4, 1, name="out")(x))


# Of images of 32 x 48 pixels: 16 x 24 cells between the first and the transposed convolution.
MACS = 384 * (9 * 3 * 8 + 9 * 16 + 4 * 16 * 5) + 1536 * 5 * 4


def test_multiplications_and_parameters_are_those_of_the_kernels():
    model = every_kind()
    graph = trace_channels(model, (32, 48))
    assert graph.num_channels == 3 + 8 + 5 + 4
    assert graph.count_macs(graph.keep_all()) == MACS == count_macs(model, (32, 48))
    assert graph.count_params(graph.keep_all()) == model.count_params()
    assert [layer.name for layer in graph.producers] == ["strided", "up", "out"]
    assert graph.protected.sum() == 3 + 4  # pixels and the output


def test_a_channel_that_leaves_takes_its_part_of_every_kernel():
    graph = trace_channels(every_kind(), (32, 48))
    keep = graph.keep_all()
    keep[graph.weighted["strided"].outputs[[1, 6]]] = False
    keep[graph.weighted["up"].outputs[2]] = False
    macs = 384 * (9 * 3 * 6 + 9 * 12 + 4 * 12 * 4) + 1536 * 4 * 4
    params = 9 * 3 * 6 + 4 * 6 + (9 * 12 + 12) + (4 * 12 * 4 + 4) + (4 * 4 + 4)
    assert (graph.count_macs(keep), graph.count_params(keep)) == (macs, params)
    pruned = rebuild(every_kind(), graph, keep)
    assert pruned.count_params() == params
    assert [pruned.get_layer(name).filters for name in ("strided", "up", "out")] == [6, 4, 4]


def test_what_no_rule_can_cut_is_protected():
    """Groups, a factor for each channel, and one channel that scales all of another tensor."""
    images = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 256)(images)
    grouped = layers.Conv2D(8, 1, name="grouped_from")(x)
    grouped = layers.Conv2D(8, 1, groups=2, name="grouped")(grouped)
    scaled = layers.Conv2D(4, 1, name="scaled_from")(x)
    scaled = layers.Rescaling([1.0, 2.0, 3.0, 4.0], name="scaled")(scaled)
    moved = layers.Conv2D(4, 1, name="moved_from")(x)
    moved = layers.Rescaling([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0], name="moved")(moved)
    wide = layers.Conv2D(6, 1, name="wide")(x)
    both = layers.Multiply()([layers.Conv2D(1, 1, name="one")(x), wide])
    ends = (grouped, scaled, moved, both)
    parts = [layers.Conv2D(2, 1, name=f"out{n}")(y) for n, y in enumerate(ends)]
    graph = trace_channels(keras.Model(images, parts), (32, 48))

    stays = {
        name: graph.protected[layer.outputs].tolist() for name, layer in graph.weighted.items()
    }
    assert stays["grouped_from"] == stays["grouped"] == [True] * 8
    assert stays["scaled_from"] == stays["moved_from"] == [True] * 4
    assert stays["one"] == [True]
    assert stays["wide"] == [False] * 6
    assert graph.num_channels == 3 + 8 + 8 + 4 + 4 + 6 + 1 + 4 * 2


def test_layers_that_are_added_or_shared_have_the_same_channels():
    images = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 256)(images)
    a, b, c = (layers.Conv2D(4, 1, name=name)(x) for name in "abc")
    shared = layers.Conv2D(5, 1, name="shared")
    added = layers.Add()([a, b])
    first, second = shared(added), shared(c)
    joined = layers.Concatenate()([first, layers.Conv2D(2, 1, name="d")(second)])
    graph = trace_channels(keras.Model(images, layers.Conv2D(1, 1, name="out")(joined)), (32, 48))

    of = {name: layer.outputs.tolist() for name, layer in graph.weighted.items()}
    assert of["a"] == of["b"] == of["c"] == graph.weighted["shared"].inputs.tolist()
    assert graph.weighted["out"].inputs.tolist() == of["shared"] + of["d"]
    assert [call.layer for call in graph.calls].count("shared") == 2
    assert graph.num_channels == 3 + 4 + 5 + 2 + 1
