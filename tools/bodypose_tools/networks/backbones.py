"""The trunks of the small network: MoveNet's MobileNetV2 x1.5, or EfficientNet-Lite0, each with
a feature pyramid as in MoveNet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from keras import KerasTensor, layers

from pose_runtime.errors import ContractError

from .fields import SIDE_MULTIPLE

# What the network does to a pixel value in 0..255 before the first convolution.
PIXEL_SCALE: Final = 1 / 256
PIXEL_OFFSET: Final = -0.5

DEEPEST_STRIDE: Final = SIDE_MULTIPLE["bodypose-s"]
PYRAMID_STRIDES: Final = (16, 8, 4)
HEAD_CHANNELS: Final[Mapping[str, int]] = {"kpt": 17, "regress": 34, "center": 1}

_LAYOUT: Final = "channels_last"
_STEM_CHANNELS: Final = 48
_TOP_CHANNELS: Final = 1280
# Expansion, channels, repeats, stride of the first, kernel. Source: Sandler et al. 2018
# (arXiv:1801.04381), table 2, with the channels of width 1.5 as MoveNet's graph has them.
_BLOCK_GROUPS: Final = (
    (1, 24, 1, 1, 3),
    (6, 40, 2, 2, 3),
    (6, 48, 3, 2, 3),
    (6, 96, 4, 2, 3),
    (6, 144, 3, 1, 3),
    (6, 240, 3, 2, 3),
    (6, 480, 1, 1, 3),
)
_LITE0_STEM_CHANNELS: Final = 32
# The same columns. Source: Tan and Le 2019 (arXiv:1905.11946), table 1; Lite0 is B0 without
# squeeze-and-excitation and with ReLU6.
_LITE0_BLOCK_GROUPS: Final = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
# Which block has which name; `c5_late` is the last.
_TAPS: Final = {"c1": 0, "c2": 2, "c3": 5, "c4_early": 9, "c4": 12, "c5": 15, "c5_late": 16}
_LITE0_TAPS: Final = {"c1": 0, "c2": 2, "c3": 4, "c4_early": 7, "c4": 10, "c5": 14, "c5_late": 15}
_LATERAL_CHANNELS: Final = {32: 64, 16: 64, 8: 32, 4: 24}
_REFINED_CHANNELS: Final = {16: 32, 8: 24, 4: 24}
_HEAD_HIDDEN_CHANNELS: Final = 96

NUM_BLOCKS: Final = sum(group[2] for group in _BLOCK_GROUPS)
LITE0_NUM_BLOCKS: Final = sum(group[2] for group in _LITE0_BLOCK_GROUPS)


def movenet_pyramid(images: KerasTensor) -> dict[str, KerasTensor]:
    """Build MoveNet MultiPose up to its heads; a Keras model keeps only what its outputs need.

    Args:
        images: (B, H, W, 3), RGB, pixel value * `PIXEL_SCALE` + `PIXEL_OFFSET`; H and W are
            multiples of 32.

    Returns:
        Features (B, H / stride, W / stride, channels) by name:

        | name | stride | channels | what it is |
        |---|---|---|---|
        | c1 | 2 | 24 | block 0, linear |
        | c2 | 4 | 40 | block 2, linear |
        | c3 | 8 | 48 | block 5, linear |
        | c4_early | 16 | 96 | block 9, linear; where the pyramid taps stride 16 |
        | c4 | 16 | 144 | block 12, linear |
        | c5 | 32 | 240 | block 15, linear |
        | c5_late | 32 | 480 | block 16, linear |
        | c5_out | 32 | 1280 | after the last 1x1 convolution, 0..6 |
        | p5 | 32 | 64 | the pyramid's first lateral, linear |
        | p4, p3, p2 | 16, 8, 4 | 32, 24, 24 | pyramid, >= 0 |
        | kpt_hidden, regress_hidden, center_hidden | 4 | 96 | inside of a head, >= 0 |
        | kpt_output, regress_output, center_output | 4 | 17, 34, 1 | output of a head |

        `kpt_output` and `center_output` are logits, `regress_output` is in cells of stride 4.

    Source: TensorFlow graph of MoveNet MultiPose Lightning 1 (Google, Apache-2.0), see
    `pretrained/movenet.py`.
    """
    _check_size(images)
    blocks = _residual_blocks(images, _STEM_CHANNELS, _BLOCK_GROUPS)
    return _features(blocks, _TAPS, stride_16="c4_early")


def efficientnet_lite0_pyramid(images: KerasTensor) -> dict[str, KerasTensor]:
    """Build EfficientNet-Lite0 with MoveNet's pyramid and heads on it, which start untrained.

    A drop-in for `movenet_pyramid`: the same names, and the same layer names for `stem`,
    `block_N`, `top`, `pyramid_`, `head_`, so that a spec's multipliers mean the same.

    Args:
        images: as for `movenet_pyramid`.

    Returns:
        Features by name, as `movenet_pyramid`, with other channels in the trunk:

        | name | stride | channels | what it is |
        |---|---|---|---|
        | c1 | 2 | 16 | block 0, linear |
        | c2 | 4 | 24 | block 2, linear |
        | c3 | 8 | 40 | block 4, linear |
        | c4_early | 16 | 80 | block 7, linear |
        | c4 | 16 | 112 | block 10, linear; where the pyramid taps stride 16 |
        | c5 | 32 | 192 | block 14, linear |
        | c5_late | 32 | 320 | block 15, linear |
        | c5_out | 32 | 1280 | after the last 1x1 convolution, 0..6 |
        | p5 to p2, *_hidden, *_output | | | as `movenet_pyramid` |

    Source: TensorFlow's EfficientNet-Lite0 (Google, Apache-2.0), see `pretrained/efficientnet.py`.
    """
    _check_size(images)
    blocks = _residual_blocks(images, _LITE0_STEM_CHANNELS, _LITE0_BLOCK_GROUPS)
    return _features(blocks, _LITE0_TAPS, stride_16="c4")


def _features(
    blocks: Sequence[KerasTensor], taps: Mapping[str, int], stride_16: str
) -> dict[str, KerasTensor]:
    """A trunk's named blocks, and the pyramid and heads on it.

    Args:
        blocks: the trunk's outputs, in order.
        taps: which of them has which name.
        stride_16: name of the block where the pyramid taps that stride.
    """
    features = {name: blocks[index] for name, index in taps.items()}
    features["c5_out"] = _relu6(_pointwise(features["c5_late"], _TOP_CHANNELS, "top"), "top")
    sources = {32: "c5_out", 16: stride_16, 8: "c3", 4: "c2"}
    features |= _pyramid({stride: features[name] for stride, name in sources.items()})
    return features | _heads(features["p2"])


def _heads(finest: KerasTensor) -> dict[str, KerasTensor]:
    features = {}
    for head, channels in HEAD_CHANNELS.items():
        hidden = _separable(finest, _HEAD_HIDDEN_CHANNELS, f"head_{head}_hidden")
        features[f"{head}_hidden"] = hidden
        features[f"{head}_output"] = _pointwise(hidden, channels, f"head_{head}_output")
    return features


def _check_size(images: KerasTensor) -> None:
    shape = tuple(images.shape)
    # None is left to the caller: a model with open height and width is built all the same.
    if len(shape) == 4 and shape[3] == 3 and not any((n or 0) % DEEPEST_STRIDE for n in shape[1:3]):
        return
    expected = f"(batch, height, width, 3), height and width multiples of {DEEPEST_STRIDE}"
    raise ContractError("images", expected, str(shape))


def _residual_blocks(
    images: KerasTensor, stem_channels: int, groups: tuple[tuple[int, int, int, int, int], ...]
) -> list[KerasTensor]:
    """The linear outputs of all blocks."""
    stem = layers.Conv2D(
        stem_channels, 3, strides=2, padding="same", data_format=_LAYOUT, name="stem"
    )
    x = _relu6(stem(images), "stem")
    blocks: list[KerasTensor] = []
    for expansion, channels, repeats, first_stride, kernel in groups:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = _inverted_residual(x, expansion, channels, stride, kernel, f"block_{len(blocks)}")
            blocks.append(x)
    return blocks


def _inverted_residual(
    x: KerasTensor, expansion: int, channels: int, stride: int, kernel: int, name: str
) -> KerasTensor:
    """One MobileNetV2 block: expand, depthwise, project; added to its input where it fits."""
    y = x
    if expansion > 1:
        expand = f"{name}_expand"
        y = _relu6(_pointwise(y, x.shape[-1] * expansion, expand), expand)
    depthwise = f"{name}_depthwise"
    convolution = layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", data_format=_LAYOUT, name=depthwise
    )
    y = _relu6(convolution(y), depthwise)
    y = _pointwise(y, channels, f"{name}_project")
    if stride == 1 and x.shape[-1] == channels:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def _pyramid(sources: Mapping[int, KerasTensor]) -> dict[str, KerasTensor]:
    """Features p5 to p2 from backbone features by stride: lateral, upsample, add, refine.

    Bilinear with half-pixel centres and edges repeated, on every Keras backend.
    """
    laterals = {
        stride: _pointwise(source, _LATERAL_CHANNELS[stride], f"pyramid_lateral_{stride}")
        for stride, source in sources.items()
    }
    x = laterals[DEEPEST_STRIDE]
    features = {"p5": x}
    for stride in PYRAMID_STRIDES:
        upsample = layers.UpSampling2D(
            2, interpolation="bilinear", data_format=_LAYOUT, name=f"pyramid_upsample_{stride}"
        )
        x = layers.Add(name=f"pyramid_add_{stride}")([upsample(x), laterals[stride]])
        x = _separable(x, _REFINED_CHANNELS[stride], f"pyramid_refine_{stride}")
        features[f"p{stride.bit_length() - 1}"] = x
    return features


def _separable(x: KerasTensor, channels: int, name: str) -> KerasTensor:
    """3x3 depthwise without bias, 1x1, ReLU: a separable convolution as two named layers."""
    depthwise = layers.DepthwiseConv2D(
        3, padding="same", use_bias=False, data_format=_LAYOUT, name=f"{name}_depthwise"
    )
    x = _pointwise(depthwise(x), channels, f"{name}_pointwise")
    return layers.ReLU(name=f"{name}_relu")(x)


def _pointwise(x: KerasTensor, channels: int, name: str) -> KerasTensor:
    return layers.Conv2D(channels, 1, padding="same", data_format=_LAYOUT, name=name)(x)


def _relu6(x: KerasTensor, name: str) -> KerasTensor:
    return layers.ReLU(max_value=6, name=f"{name}_relu")(x)


# By the spec's `model.backbone`.
BACKBONES: Final[Mapping[str, Callable[[KerasTensor], dict[str, KerasTensor]]]] = {
    "movenet": movenet_pyramid,
    "efficientnet-lite0": efficientnet_lite0_pyramid,
}
