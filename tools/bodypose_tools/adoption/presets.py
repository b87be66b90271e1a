"""The conventions of projects whose networks people have, each with where it is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from pose_runtime.skeleton import BODYPOSE_18, Skeleton

from .settings import Background, Colours, Convention, FieldOrder, PresetName
from .skeletons import BODY_25, TRT_POSE_18


@dataclass(frozen=True, slots=True)
class Preset:
    """A project's skeleton and convention; `source` is where both are published."""

    skeleton: Skeleton
    convention: Convention
    source: str


# The input is x / 256 - 0.5, and the background is the last heatmap.
_TAO = Convention(
    known_names=(
        *("heatmap_out/BiasAdd:0", "paf_out/BiasAdd:0"),
        "conv2d_transpose_1/BiasAdd:0",  # with --sdk_compatible_model
    ),
    colours=Colours.RGB,
    mean=(128.0,),
    std=(256.0,),
    background=Background.LAST,
)
_OPENPOSE = Convention(
    combined="net_output",
    colours=Colours.BGR,
    mean=(128.0,),
    std=(256.0,),
    background=Background.LAST,
)
_OPENPOSE_SOURCE = (
    "CMU-Perceptual-Computing-Lab/openpose src/openpose/pose/poseParameters.cpp at 5c5d965"
)

PRESETS: Final[Mapping[PresetName, Preset]] = {
    PresetName.TAO: Preset(
        BODYPOSE_18, _TAO, "NVIDIA/tao_tensorflow1_backend nvidia_tao_tf1/cv/bpnet at 2ec95cb"
    ),
    PresetName.TAO_SDK: Preset(
        BODYPOSE_18,
        _TAO,
        "NVIDIA-AI-IOT/deepstream_tao_apps models/bodypose2d at 29e0add",
    ),
    PresetName.OPENPOSE_COCO: Preset(BODYPOSE_18, _OPENPOSE, _OPENPOSE_SOURCE),
    PresetName.OPENPOSE_BODY25: Preset(BODY_25, _OPENPOSE, _OPENPOSE_SOURCE),
    PresetName.LIGHTWEIGHT_OPENPOSE: Preset(
        BODYPOSE_18,
        replace(_OPENPOSE, combined=None),
        "Daniil-Osokin/lightweight-human-pose-estimation.pytorch demo.py and"
        " modules/keypoints.py at d23c284",
    ),
    PresetName.TRT_POSE: Preset(
        TRT_POSE_18,
        Convention(
            known_names=("heatmap", "part_affinity_fields"),  # of its exporter for Isaac
            colours=Colours.RGB,
            mean=(123.675, 116.28, 103.53),  # of ImageNet
            std=(58.395, 57.12, 57.375),
            background=Background.NONE,
            field_order=FieldOrder.YX,
        ),
        "NVIDIA-AI-IOT/trt_pose tasks/human_pose and trt_pose/train/generate_paf.cpp at 336b8cd",
    ),
}
