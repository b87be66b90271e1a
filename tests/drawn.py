"""A COCO-format set of drawn people, and a network small enough to be trained on it in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec
from tests.unit.tools.people import person

HEIGHT, WIDTH = 160, 224
DRAWN = {
    1: [person(30, 20, 1.2)],
    2: [person(20, 10, 1.4), person(140, 30, 1.1)],
}


@pytest.fixture(scope="session")
def drawn_coco(tmp_path_factory) -> Path:
    """A folder with 1.png, 2.png and people.json: three stick figures, every limb a colour."""
    folder = tmp_path_factory.mktemp("coco")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id, people in DRAWN.items():
        picture = rng.integers(90, 140, (HEIGHT, WIDTH, 3), np.uint8)
        for joints in people:
            _draw(picture, joints)
            annotations.append(_annotation(len(annotations) + 1, image_id, joints))
        cv2.imwrite(str(folder / f"{image_id}.png"), picture)
        images.append(
            {"id": image_id, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH}
        )
    category = {"id": 1, "name": "person", "keypoints": list(BODYPOSE_18.annotated_joints)}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def tiny_keras(tmp_path_factory) -> Path:
    """A `.keras` file of a network with all the outputs of `bodypose-s`, of two stages.

    Two convolutions of 32 filters, `first` and `second`, make the features of strides 4 and 8.
    """
    import keras
    from keras import layers

    from bodypose_tools.networks.keras_files import save_network

    keras.utils.set_random_seed(3)

    def output(x, channels: int, name: str):
        return layers.Conv2D(channels, 1, dtype="float32", name=name)(x)

    def heatmaps(x, channels: int, name: str):
        rare = {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.01)}
        rare["bias_initializer"] = keras.initializers.Constant(-4)  # no peak before training
        return layers.Conv2D(channels, 1, activation="sigmoid", dtype="float32", name=name, **rare)(
            x
        )

    pixels = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x, strides = layers.Rescaling(1 / 256, -0.5)(pixels), {}
    for name, step in (("first", 4), ("second", 2)):
        x = layers.Conv2D(32, 3, strides=step, padding="same", name=name)(x)
        x = layers.BatchNormalization(name=f"{name}_bn")(x)
        x = strides[name] = layers.ReLU(name=f"{name}_relu")(x)
    joints, limbs = BODYPOSE_18.num_joints, BODYPOSE_18.num_limbs
    heat, paf = strides["first"], strides["second"]
    outputs = [
        *(heatmaps(heat, joints + 1, f"heat_{stage}") for stage in (1, 2)),
        *(output(paf, 2 * limbs, f"paf_{stage}") for stage in (1, 2)),
        heatmaps(heat, 1, "centre"),
        output(heat, 2 * joints, "offsets"),
    ]
    path = tmp_path_factory.mktemp("tiny") / "whole.keras"
    network = keras.Model(pixels, outputs, name="tiny_network")
    save_network(network, path, "train", PipelineSpec(network_hw=(HEIGHT, WIDTH)), settings={})
    return path


def _draw(picture: np.ndarray, joints: np.ndarray) -> None:
    for limb, (a, b) in enumerate(BODYPOSE_18.limbs):
        colour = np.random.default_rng(limb).integers(0, 256, 3).tolist()
        ends = [tuple(int(side) for side in joints[end, :2]) for end in (a, b)]
        cv2.line(picture, *ends, colour, 3)


def _annotation(number: int, image_id: int, joints: np.ndarray) -> dict:
    keypoints = BODYPOSE_18.annotation_from_joints(joints[None])[0].copy()
    keypoints[:, :2] -= 0.5
    low, high = joints[:, :2].min(axis=0), joints[:, :2].max(axis=0)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": len(keypoints),
        "keypoints": keypoints.ravel().tolist(),
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": float(np.prod(high - low)),
    }
