"""A server that is a function: each image file's answer, without a network."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_client import cli
from bodypose_client.errors import RequestRejected
from bodypose_client.wire.connect import Connect
from bodypose_client.wire.connection import PIPELINE_PARAMETER, Connection, ModelInfo
from pose_runtime.errors import ImageError
from pose_runtime.images import decode_image
from pose_runtime.poses import Poses, pack_poses
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import ImageLimits, PipelineSpec

Answer = Callable[[np.ndarray], Poses]


@pytest.fixture
def spec() -> PipelineSpec:
    return PipelineSpec(max_people=4).with_model("ab" * 32)


@pytest.fixture
def fake_server(spec):
    """From "pixels -> people" to what `PoseClient(connect=...)` takes."""

    def serve(
        answer: Answer, served: PipelineSpec = spec, limits: ImageLimits | None = None
    ) -> Connect:
        async def infer(request):
            (payload,) = request.inputs.values()
            people = [
                answer(_decode(row[0], limits or served.limits))
                for row in served.image.check(payload)
            ]
            packed = [pack_poses(poses, served.max_people) for poses in people]
            names = (served.keypoints.name, served.scores.name, served.num_people.name)
            return {
                name: np.stack(rows)
                for name, rows in zip(names, zip(*packed, strict=True), strict=True)
            }

        info = ModelInfo(("1", "3"), {PIPELINE_PARAMETER: served.to_json()})

        async def describe(model, deadline):
            return info

        return lambda address, access: Connection(infer, describe)

    return serve


def _decode(data, limits):
    try:
        return decode_image(data, limits)
    except ImageError as error:
        raise RequestRejected(str(error)) from error


@pytest.fixture
def one_person(spec):
    """A person standing in the middle of any image, all joints found with score 0.5."""

    def answer(pixels: np.ndarray) -> Poses:
        height, width = pixels.shape[:2]
        keypoints = np.full((1, spec.skeleton.num_joints, 3), 0.5, np.float32)
        keypoints[0, :, 0] = width / 2
        keypoints[0, :, 1] = np.linspace(1, height - 1, spec.skeleton.num_joints)
        return Poses(keypoints, np.float32([0.5]))

    return answer


@pytest.fixture
def write_image(tmp_path) -> Callable[..., Path]:
    """A grey JPEG or PNG file of the given height and width."""

    def write(name: str, image_hw: tuple[int, int] = (48, 64)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((*image_hw, 3), 90, np.uint8))
        return path

    return write


@pytest.fixture
def run(fake_server, one_person):
    """`pose-client ARGS` against a server that finds one person in every image."""

    def call(*args, answer=one_person, **options):
        arguments = [str(arg) for arg in args]
        return CliRunner().invoke(cli.app, arguments, obj=fake_server(answer), **options)

    return call


@pytest.fixture
def split(tmp_path, write_image):
    """Two images; in the first stands one person, where `one_person` will find it."""
    write_image("val/1.jpg", (100, 60))
    write_image("val/2.jpg", (100, 60))
    joints = np.linspace(1, 99, 18)[list(BODYPOSE_18.annotated)]
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 100, "width": 60} for n in (1, 2)],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "keypoints": [value for y in joints for value in (30, float(y), 2)],
                "num_keypoints": 17,
                "bbox": [0, 0, 60, 100],
                "area": 6000,
                "iscrowd": 0,
            }
        ],
        "categories": [
            {"id": 1, "name": "person", "keypoints": list(BODYPOSE_18.annotated_joints)}
        ],
    }
    path = tmp_path / "person_keypoints.json"
    path.write_text(json.dumps(content))
    return path, tmp_path / "val"
