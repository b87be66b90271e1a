"""The example pictures: those of the package are those drawn here, and their people are found."""

import numpy as np
import pytest

from bodypose_client.pictures.examples import EXAMPLES
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.scenes.examples import EXAMPLES as SCENES
from pose_runtime.grouping import people_in_image
from pose_runtime.images import decode_image, network_pixels
from pose_runtime.poses import FOUND_JOINT_SCORE
from pose_runtime.spec import ImageLimits


@pytest.fixture(scope="module")
def model():
    predict, spec, _ = open_predictor(SHIPPED_MODEL)
    return predict, spec


def test_the_package_brings_a_picture_of_every_scene():
    assert list(EXAMPLES) == list(SCENES)
    assert sum(path.stat().st_size for path in EXAMPLES.values()) < 300_000


@pytest.mark.slow
def test_the_picture_in_the_package_is_the_one_drawn():
    ours = decode_image(EXAMPLES["yoga"].read_bytes(), ImageLimits()).astype(int)
    coarse = SCENES["yoga"].draw(fineness=1).pixels.astype(int)
    assert np.abs(ours - coarse).mean() < 8, "run python -m tests.example_pictures"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_shipped_network_finds_everybody(model, name):
    predict, spec = model
    pixels, letterbox = network_pixels(EXAMPLES[name].read_bytes(), spec.network_hw, spec.limits)
    peaks, limb_scores = predict(pixels[None])
    poses = people_in_image(peaks[0], limb_scores[0], letterbox.to_geometry(), spec).above(0.5)
    assert len(poses) == len(SCENES[name].people)
    assert ((poses.keypoints[..., 2] >= FOUND_JOINT_SCORE).sum(axis=1) >= 17).all()
