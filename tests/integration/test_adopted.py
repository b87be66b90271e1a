"""Networks in the layouts of other projects, from their file through a real server to a client."""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest

from bodypose_client.pose_client import PoseClient
from bodypose_tools.adoption.presets import PRESETS
from bodypose_tools.adoption.settings import PresetName
from bodypose_tools.server.embedded import embedded_server
from tests.commands import tools
from tests.serving import MISSING_WHEEL
from tests.unit.tools.foreign_networks import people_for, picture, write_drawn_network

pytestmark = [pytest.mark.triton, pytest.mark.slow]


@pytest.mark.parametrize("preset", PresetName)
def test_the_server_finds_exactly_the_people_of_the_network(preset, tmp_path):
    if importlib.util.find_spec("pytriton") is None:
        pytest.skip(MISSING_WHEEL)
    net, model, repository = tmp_path / "net.onnx", tmp_path / "model.onnx", tmp_path / "repository"
    write_drawn_network(net, preset)
    photo, other = tmp_path / "photo.png", tmp_path / "other.png"
    assert cv2.imwrite(str(photo), picture(preset)[:, :, ::-1])
    assert cv2.imwrite(str(other), picture(preset))  # red and blue swapped
    tools("adopt", net, "-o", model, "--preset", preset)
    tools("build-repo", model, "-o", repository)
    tools("check-repo", repository)

    with (
        embedded_server(repository) as server,
        PoseClient(f"grpc://{server.grpc_url}") as client,
    ):
        assert client.skeleton == PRESETS[preset].skeleton
        found, nobody = client.infer(photo), client.infer(other)

    people = people_for(preset)
    order = np.argsort(found.keypoints[:, 0, 0])
    assert found.keypoints.shape == people.shape
    assert np.abs(found.keypoints[order][..., :2] - 2 * people[..., :2]).max() < 0.5
    assert len(nobody.keypoints) == 0
