"""A COCO-format set of drawn people, small enough to learn by heart."""

import importlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pose_runtime.skeleton import BODYPOSE_18

from .people import person

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


@pytest.fixture
def without_nvidia(monkeypatch):
    """A machine that has none of NVIDIA's packages."""
    known = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name.partition(".")[0] in ("tensorrt", "tensorrt_rtx", "cuda"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return known(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)


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
