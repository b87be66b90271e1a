"""A server that is a function: each image file's answer, without a network."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from client.errors import RequestRejected
from client.transport import PIPELINE_PARAMETER, Connect, Connection, ModelInfo
from pose_runtime.errors import ImageError
from pose_runtime.images import decode_image
from pose_runtime.poses import Poses, pack_poses
from pose_runtime.spec import PipelineSpec

Answer = Callable[[np.ndarray], Poses]


@pytest.fixture
def spec() -> PipelineSpec:
    return PipelineSpec(max_people=4).with_model("ab" * 32)


@pytest.fixture
def fake_server(spec):
    """From "pixels -> people" to what `PoseClient(connect=...)` takes."""

    def serve(answer: Answer, served: PipelineSpec = spec) -> Connect:
        def infer(model, inputs):
            (payload,) = inputs.values()
            people = [answer(_decode(row[0], served)) for row in served.image.check(payload)]
            packed = [pack_poses(poses, served.max_people) for poses in people]
            names = (served.keypoints.name, served.scores.name, served.num_people.name)
            return {
                name: np.stack(rows)
                for name, rows in zip(names, zip(*packed, strict=True), strict=True)
            }

        info = ModelInfo(("1", "3"), {PIPELINE_PARAMETER: served.to_json()})
        return lambda address, timeout_s: Connection(infer, lambda model: info)

    return serve


def _decode(data, spec):
    try:
        return decode_image(data, spec.limits)
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
