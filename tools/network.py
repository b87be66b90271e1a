"""Owns the networks: Keras 3 functional graphs from pixels to heatmaps and part affinity fields.

Nothing here depends on the Keras backend. A network's outputs are, in BodyPoseNet's order,
heat_1..heat_T, paf_1..paf_T for T stages; the last of each kind is what is decoded.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers

from pose_runtime.skeleton import Skeleton

from .backbones import PIXEL_OFFSET, PIXEL_SCALE, movenet_pyramid
from .config import NetworkConfig

# Channels of `bodypose-s`'s neck and stages: 96 keeps it at 3.5 GMAC for 288 x 384 pixels.
_SMALL_WIDTH = 96
_BN_MOMENTUM = 0.95


def build_network(config: NetworkConfig, skeleton: Skeleton) -> keras.Model:
    """A network for `skeleton`, for any input whose sides are multiples of 32 pixels.

    Returns:
        A model from `pixels` (B, H, W, 3) uint8 RGB to 2T outputs of H/8 x W/8 cells.
    """
    pixels = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    images = layers.Rescaling(PIXEL_SCALE, PIXEL_OFFSET, name="normalize")(pixels)
    build = _bodypose_s if config.architecture == "bodypose-s" else _bodypose_vgg19
    heatmaps, affinity = build(images, config.stages, skeleton)
    model = keras.Model(pixels, [*heatmaps, *affinity], name=config.architecture.replace("-", "_"))
    regularize(model, config)
    return model


def final_fields(model: keras.Model) -> tuple[Any, Any]:
    """The last stage's heatmaps (J + 1 channels) and part affinity fields (2L channels)."""
    stages = len(model.outputs) // 2
    return model.outputs[stages - 1], model.outputs[-1]


def with_dtype_policy(model: keras.Model, policy: str) -> keras.Model:
    """The same graph and weights, computing in another dtype policy, such as "float32"."""

    def clone(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        keeps_float32 = policy != "float32" and (
            isinstance(layer, layers.Rescaling) or _is_output(layer)
        )
        if not isinstance(layer, layers.InputLayer):
            config["dtype"] = "float32" if keeps_float32 else policy
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def count_macs(model: keras.Model, network_hw: tuple[int, int]) -> int:
    """Multiply-accumulates of all convolutions for one image of `network_hw` pixels."""
    sized = keras.models.clone_model(
        model, input_tensors=keras.Input((*network_hw, 3), dtype="uint8")
    )
    total = 0
    for layer in sized.layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            _, height, width, _ = layer.output.shape
            total += height * width * math.prod(layer.kernel.shape)
    return total


def _is_output(layer: layers.Layer) -> bool:
    return layer.name.startswith(("heat_", "paf_"))


def regularize(model: keras.Model, config: NetworkConfig) -> None:
    """Give every convolution's kernel the regulariser of the spec, or take away what it has."""
    kinds = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}
    factor = config.kernel_regularization_factor
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            regularizer = kinds[config.regularization_type](factor) if factor else None
            layer.kernel_regularizer = regularizer  # what the file keeps
            layer.kernel.regularizer = regularizer  # what the loss sees


def _conv_bn_relu6(x: Any, filters: int, kernel: int, name: str, strides: int = 1) -> Any:
    x = layers.Conv2D(
        filters, kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
    )(x)
    x = layers.BatchNormalization(momentum=_BN_MOMENTUM, name=f"{name}_bn")(x)
    return layers.ReLU(max_value=6, name=f"{name}_relu")(x)


def _residual_block(x: Any, filters: int, name: str) -> Any:
    inner = _conv_bn_relu6(x, filters, 3, f"{name}_a")
    inner = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_b_conv")(inner)
    inner = layers.BatchNormalization(momentum=_BN_MOMENTUM, name=f"{name}_b_bn")(inner)
    return layers.ReLU(max_value=6, name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, inner]))


def _fields(x: Any, hidden: int, stage: int, skeleton: Skeleton) -> tuple[Any, Any]:
    """The two 1 x 1 branches of a stage; outputs stay in float32 under mixed precision."""
    outputs = []
    for kind, channels in (("heat", skeleton.num_joints + 1), ("paf", 2 * skeleton.num_limbs)):
        branch = _conv_bn_relu6(x, hidden, 1, f"stage_{stage}_{kind}")
        outputs.append(_field_output(channels, f"{kind}_{stage}")(branch))
    return outputs[0], outputs[1]


def _field_output(channels: int, name: str) -> layers.Layer:
    """A linear 1 x 1 output, near 0 at first (BodyPoseNet's normal 0.01), always in float32."""
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    return layers.Conv2D(channels, 1, kernel_initializer=initializer, dtype="float32", name=name)


def _bodypose_s(images: Any, stages: int, skeleton: Skeleton) -> tuple[list[Any], list[Any]]:
    """MoveNet's MobileNetV2 and pyramid, a neck to stride 8, and residual 3 x 3 stages."""
    width = _SMALL_WIDTH
    pyramid = movenet_pyramid(images)
    gathered = [
        _conv_bn_relu6(pyramid["kpt_hidden"], 64, 3, "neck_kpt", strides=2),
        _conv_bn_relu6(pyramid["regress_hidden"], 64, 3, "neck_regress", strides=2),
        pyramid["c3"],
        pyramid["p3"],
        layers.UpSampling2D(2, interpolation="bilinear", name="neck_up_16")(
            _conv_bn_relu6(pyramid["c4"], 64, 1, "neck_16")
        ),
        layers.UpSampling2D(4, interpolation="bilinear", name="neck_up_32")(
            _conv_bn_relu6(pyramid["c5_out"], 64, 1, "neck_32")
        ),
    ]
    features = _conv_bn_relu6(layers.Concatenate(name="neck_concat")(gathered), width, 1, "neck")
    x = _residual_block(features, width, "stage_1_block")
    heat, paf = _fields(x, width, 1, skeleton)
    heatmaps, affinity = [heat], [paf]
    for stage in range(2, stages + 1):
        x = layers.Concatenate(name=f"stage_{stage}_concat")([features, heat, paf])
        x = _conv_bn_relu6(x, width, 3, f"stage_{stage}_in")
        x = _residual_block(x, width, f"stage_{stage}_block")
        x = _conv_bn_relu6(x, width, 3, f"stage_{stage}_out")
        heat, paf = _fields(x, width, stage, skeleton)
        heatmaps.append(heat)
        affinity.append(paf)
    return heatmaps, affinity


# BodyPoseNet's "modified VGG19": per block the filters, a stride of 2 on the first of blocks 2-4.
_VGG_BLOCKS = {1: (64, 64), 2: (128, 128), 3: (256,) * 4, 4: (512, 512), 6: (256,)}


def _bodypose_vgg19(images: Any, stages: int, skeleton: Skeleton) -> tuple[list[Any], list[Any]]:
    """BodyPoseNet "lite": VGG19 with strided convolutions, 3 x 3 stage 1, 7 x 7 refinements.

    Source: NVIDIA TAO `BpNetLiteModel`, as described in the project's reference notes.
    """

    def conv_relu(x: Any, filters: int, kernel: int, name: str) -> Any:
        x = layers.Conv2D(filters, kernel, padding="same", name=name)(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    x = images
    for block, widths in _VGG_BLOCKS.items():
        for index, filters in enumerate(widths):
            name = f"block_{block}{chr(ord('a') + index)}"
            strides = 2 if block in (2, 3, 4) and index == 0 else 1
            x = layers.Conv2D(
                filters, 3, strides=strides, padding="same", use_bias=False, name=f"{name}_conv"
            )(x)
            x = layers.BatchNormalization(momentum=_BN_MOMENTUM, name=f"{name}_bn")(x)
            x = layers.ReLU(name=f"{name}_relu")(x)
    features = conv_relu(x, 128, 3, "channel_reduction_conv")

    heatmaps: list[Any] = []
    affinity: list[Any] = []
    x = features
    for stage in range(1, stages + 1):
        kernel, depth, hidden = (3, 3, 512) if stage == 1 else (7, 5, 128)
        if stage > 1:
            x = layers.Concatenate(name=f"stage_{stage}_concat")(
                [features, heatmaps[-1], affinity[-1]]
            )
        for index in range(1, depth + 1):
            x = conv_relu(x, 128, kernel, f"stage_{stage}_conv{index}")
        for kind, fields in (("heat", heatmaps), ("paf", affinity)):
            channels = skeleton.num_joints + 1 if kind == "heat" else 2 * skeleton.num_limbs
            branch = conv_relu(x, hidden, 1, f"stage_{stage}_{kind}_conv")
            fields.append(_field_output(channels, f"{kind}_{stage}")(branch))
    return heatmaps, affinity
