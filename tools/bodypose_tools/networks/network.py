"""The networks: Keras 3 functional graphs from pixels to heatmaps and part affinity fields.

Nothing here depends on the Keras backend. A network's outputs are, in BodyPoseNet's order,
heat_1..heat_T, paf_1..paf_T for T stages; the last of each kind is what is decoded. `bodypose-s`
adds people's centres, `centre` and `offsets` (`networks/fields.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from keras import layers

from pose_runtime.errors import PoseError
from pose_runtime.skeleton import Skeleton

from .backbones import BACKBONES, PIXEL_OFFSET, PIXEL_SCALE
from .fields import SIDE_MULTIPLE, STRIDE
from .settings import NetworkConfig

# Channels of `bodypose-s`'s neck and stages: 96 keeps it at 3.5 GMAC for 288 x 384 pixels.
_SMALL_WIDTH = 96
_HEAT_WIDTH = 48  # channels into which a stage reduces the heatmaps before it
_BN_MOMENTUM = 0.95
_ANY_SIZE = 64
# Initial bias of heatmap logits: a cell with a joint is rare.
_RARE = -4.0


def build_network(config: NetworkConfig, skeleton: Skeleton) -> keras.Model:
    """A network for `skeleton`, for any input whose sides are multiples of its `SIDE_MULTIPLE`.

    Returns:
        A model from `pixels` (B, H, W, 3) uint8 RGB to outputs of H/8 x W/8 cells; heatmaps and
        centres of `bodypose-s` have H/4 x W/4.
    """
    pixels = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    images = layers.Rescaling(PIXEL_SCALE, PIXEL_OFFSET, name="normalize")(pixels)
    if config.architecture == "bodypose-s":
        outputs = _bodypose_s(BACKBONES[config.backbone](images), config.stages, skeleton)
    else:
        outputs = _bodypose_vgg19(images, config.stages, skeleton)
    model = keras.Model(pixels, outputs, name=config.architecture.replace("-", "_"))
    regularize(model, config)
    return model


class InputSizeError(PoseError):
    """An input size that a network cannot take."""


def check_input_size(network: keras.Model, network_hw: tuple[int, int]) -> None:
    """Height and width of an input must be multiples of the network's deepest stride.

    Raises:
        InputSizeError: they are not.
    """
    architecture = network.name.replace("_", "-")
    multiple = SIDE_MULTIPLE.get(architecture, STRIDE)
    if any(side <= 0 or side % multiple for side in network_hw):
        raise InputSizeError(
            f"{architecture}: expected an input whose sides are multiples of {multiple}, got"
            f" {network_hw[0]} x {network_hw[1]} (height x width)"
        )


def heatmap_stride(network: keras.Model) -> int:
    """Pixels of the input per cell of the heatmaps."""
    size = _ANY_SIZE
    outputs = network.compute_output_shape((1, size, size, 3))
    return int(size // outputs[0][1])


def freeze(network: keras.Model, multipliers: Mapping[str, float]) -> None:
    """Freeze the layers whose learning-rate multiplier is 0, and let all others train."""
    frozen = tuple(key for key, multiplier in multipliers.items() if multiplier == 0)
    for layer in network.layers:
        layer.trainable = not layer.name.startswith(frozen)


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


def _is_output(layer: layers.Layer) -> bool:
    return layer.name.startswith(("heat_", "paf_", "centre", "offsets"))


def regularize(model: keras.Model, config: NetworkConfig) -> None:
    """Give every convolution's kernel the regulariser of the spec, or take away what it has."""
    kinds = {"l1": keras.regularizers.L1, "l2": keras.regularizers.L2}
    factor = config.kernel_regularization_factor
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D):
            regularizer = kinds[config.regularization_type](factor) if factor else None
            layer.kernel_regularizer = regularizer  # stored in the file
            layer.kernel.regularizer = regularizer  # used by the loss


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


def _field_output(channels: int, name: str) -> layers.Layer:
    """A linear 1 x 1 output, near 0 at first (BodyPoseNet's normal 0.01), always in float32."""
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    return layers.Conv2D(channels, 1, kernel_initializer=initializer, dtype="float32", name=name)


def _rare_logits(channels: int, name: str) -> layers.Layer:
    """Logits that start near the probability of an empty cell."""
    return layers.Conv2D(
        channels,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(_RARE),
        dtype="float32",
        name=name,
    )


def _bodypose_s(pyramid: dict[str, Any], stages: int, skeleton: Skeleton) -> list[Any]:
    """A backbone with MoveNet's pyramid and heads; a neck to stride 8, and residual 3 x 3 stages.

    Heatmaps are MoveNet's own, of stride 4, to which each stage adds a correction. A stage
    works at stride 8; its last layer, a transposed convolution, has four cells for each of those.
    """
    width = _SMALL_WIDTH
    logits = _rare_logits(skeleton.num_joints + 1, "heat_0_logits")(pyramid["kpt_hidden"])
    centre = _rare_logits(1, "centre_logits")(pyramid["center_hidden"])
    centre = layers.Activation("sigmoid", dtype="float32", name="centre")(centre)
    offsets = _field_output(2 * skeleton.num_joints, "offsets")(pyramid["regress_hidden"])
    gathered = [
        *(
            _conv_bn_relu6(pyramid[f"{head}_hidden"], 64, 3, f"neck_{head}", strides=2)
            for head in ("kpt", "regress")
        ),
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
    heat = layers.Activation("sigmoid", dtype="float32", name="heat_0")(logits)
    heatmaps: list[Any] = []
    affinity: list[Any] = []
    for stage in range(1, stages + 1):
        name = f"stage_{stage}"
        seen = [features, _conv_bn_relu6(heat, _HEAT_WIDTH, 2, f"{name}_heat_in", strides=2)]
        x = layers.Concatenate(name=f"{name}_concat")([*seen, *affinity[-1:]])
        x = _conv_bn_relu6(x, width, 3, f"{name}_in")
        x = _residual_block(x, width, f"{name}_block")
        if stage > 1:
            x = _conv_bn_relu6(x, width, 3, f"{name}_out")
        better = layers.Conv2DTranspose(
            skeleton.num_joints + 1,
            2,
            strides=2,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype="float32",
            name=f"heat_{stage}_change",
        )(_conv_bn_relu6(x, width, 1, f"{name}_heat"))
        logits = layers.Add(dtype="float32", name=f"heat_{stage}_logits")([logits, better])
        heat = layers.Activation("sigmoid", dtype="float32", name=f"heat_{stage}")(logits)
        heatmaps.append(heat)
        paf = _field_output(2 * skeleton.num_limbs, f"paf_{stage}")
        affinity.append(paf(_conv_bn_relu6(x, width, 1, f"{name}_paf")))
    return [*heatmaps, *affinity, centre, offsets]


# BodyPoseNet's "modified VGG19": per block the filters, a stride of 2 on the first of blocks 2-4.
_VGG_BLOCKS = {1: (64, 64), 2: (128, 128), 3: (256,) * 4, 4: (512, 512), 6: (256,)}


def _bodypose_vgg19(images: Any, stages: int, skeleton: Skeleton) -> list[Any]:
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
    return [*heatmaps, *affinity]
