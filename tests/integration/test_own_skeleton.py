"""A user's own data and skeleton, from training to the server, without touching code."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from bodypose_client.evaluation import evaluate_server, open_split
from bodypose_client.pose_client import PoseClient
from bodypose_tools.evaluation.offline import evaluate_model
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.server.embedded import embedded_server
from pose_runtime.skeleton import Skeleton
from tests.commands import tools

pytestmark = [pytest.mark.triton, pytest.mark.slow]

FISH = Skeleton(
    name="fish",
    joints=("head", "left_fin", "right_fin", "tail"),
    limbs=((0, 1), (0, 2), (0, 3)),
    mirror=(0, 2, 1, 3),
    sigmas=(0.05, 0.08, 0.08, 0.05),
    annotated=(0, 1, 2, 3),
)
HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def pond(tmp_path_factory) -> Path:
    """A COCO-format set of two pictures with three fish, and the fish's skeleton."""
    folder = tmp_path_factory.mktemp("pond")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id, fishes in {1: [(20, 30)], 2: [(10, 20), (70, 50)]}.items():
        picture = rng.integers(60, 120, (HEIGHT, WIDTH, 3), np.uint8)
        for x, y in fishes:
            joints = np.array([(x, y), (x + 12, y - 12), (x + 12, y + 12), (x + 36, y)])
            for (a, b), colour in zip(
                FISH.limbs, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True
            ):
                cv2.line(picture, joints[a].tolist(), joints[b].tolist(), colour, 3)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "iscrowd": 0,
                    "num_keypoints": 4,
                    "keypoints": np.insert(joints, 2, 2, axis=1).ravel().tolist(),
                    "bbox": [x, y - 12, 36, 24],
                    "area": 36 * 24 * 2,
                }
            )
        cv2.imwrite(str(folder / f"{image_id}.png"), picture)
        images.append(
            {"id": image_id, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH}
        )
    category = {"id": 1, "name": "fish", "keypoints": list(FISH.joints)}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "fish.json").write_text(json.dumps(content))
    (folder / "skeleton.json").write_text(json.dumps(FISH.to_json()))
    return folder


def test_fish_are_trained_exported_built_served_and_evaluated(pond, tmp_path):
    split = {"annotation_path": "fish.json", "images_root_dir_path": "."}
    spec = {
        "num_epoch": 200,
        "validation_every_n_epoch": 200,
        "dataloader": {
            "batch_size": 2,
            "workers": 1,
            "image_config": {"height": HEIGHT, "width": WIDTH},
            "pose_config": {"pose_config_path": str(pond / "skeleton.json")},
            "dataset_config": {
                "root_data_path": str(pond),
                "train_data": split,
                "val_data": split,
            },
            "augmentation_config": {"identity": True},
        },
        "model": {"stages": 2},
        "optimizer": {
            "ema_momentum": 0,
            "learning_rate_schedule": {
                "annealing": 0.3,
                "base_learning_rate": 3e-3,
                "min_learning_rate": 1e-6,
            },
        },
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    best, onnx, repository = tmp_path / "run" / "best.keras", tmp_path / "fish.onnx", tmp_path / "r"
    tools("train", "-e", tmp_path / "spec.yaml", "-r", tmp_path / "run")
    tools("export", "-m", best, "-o", onnx, "--sdk_compatible_model", "--sample-images", pond)
    tools("build-repo", onnx, "-o", repository)
    tools("check-repo", repository)

    with (
        embedded_server(repository) as server,
        PoseClient(f"grpc://{server.grpc_url}") as client,
    ):
        assert client.skeleton == FISH
        found = client.infer(pond / "2.png")
        served = evaluate_server(client, open_split(pond / "fish.json", pond, None), in_flight=1)
    assert found.keypoints.shape[1:] == (4, 3)
    assert served.metrics.ap50 > 0.99
    assert served.metrics.ap > 0.9
    predict, pipeline, _ = open_predictor(onnx)
    offline = evaluate_model(predict, pipeline, pond / "fish.json", pond)
    assert offline.ap == pytest.approx(served.metrics.ap, abs=1e-6)
