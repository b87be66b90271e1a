from dataclasses import replace

import keras
import numpy as np
import pytest

from pose_runtime.skeleton import BODYPOSE_18
from tools.config import NetworkConfig
from tools.field_training import field_loss, taught_loss
from tools.fields import Fields
from tools.network import build_network
from tools.samples import Targets
from tools.teaching import Teacher, resized

HW = (64, 96)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    return build_network(NetworkConfig(stages=2), BODYPOSE_18)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Smooth ones, in twice the size of the network's input."""
    coarse = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3)).astype(np.float32)
    fine = keras.ops.image.resize(coarse, (2 * HW[0], 2 * HW[1]), "bilinear")
    return np.asarray(fine).astype(np.uint8)


def parts(fields: Fields) -> list[np.ndarray]:
    named = (fields.heatmaps[-1], fields.affinity[-1], fields.centre, fields.offsets)
    return [np.asarray(part) for part in named]


def test_one_look_is_what_the_network_says(network, images):
    small = np.asarray(resized(images, HW))
    expected = parts(Fields.of(network(small)))
    got = Teacher(network, BODYPOSE_18, HW)(images)
    assert len(got.heatmaps) == len(got.affinity) == 1
    for one, other in zip(expected, parts(got), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_image_of_twice_the_size_becomes_the_mean_of_its_pixels(images):
    blocks = images.reshape(2, HW[0], 2, HW[1], 2, 3).astype(np.float64).mean(axis=(2, 4))
    small = np.asarray(resized(images, HW))
    assert small.dtype == np.uint8
    assert np.abs(small - blocks).max() <= 0.5


def test_a_teacher_that_sees_mirror_pictures_says_mirrored_things_to_mirrored_images(
    network, images
):
    """Left and right are exchanged, and x points the other way."""
    teacher = Teacher(network, BODYPOSE_18, HW, scales=(1.0, 2.0), flip=True)
    said = teacher(images)
    of_mirror = teacher(images[:, :, ::-1])
    for one, other in zip(parts(said), parts(teacher._unmirrored(of_mirror)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_larger_look_is_in_the_cells_of_the_network(network, images):
    """Offsets of twice as many cells are half as long in the student's."""
    fields = Teacher(network, BODYPOSE_18, HW, scales=(2.0,))(images)
    large = parts(Fields.of(network(images)))
    assert fields.heatmaps[0].shape[1:3] == (HW[0] // 4, HW[1] // 4)
    for name, ours, theirs, factor in zip(
        ("heatmaps", "affinity", "centre", "offsets"),
        parts(fields),
        large,
        (1, 1, 1, 2),
        strict=True,
    ):
        batch, rows, columns, channels = theirs.shape
        means = theirs.reshape(batch, rows // 2, 2, columns // 2, 2, channels).mean(axis=(2, 4))
        np.testing.assert_allclose(factor * ours, means, atol=1e-4, err_msg=name)


def test_a_student_who_says_the_same_pays_nothing(network, images):
    taught = Teacher(network, BODYPOSE_18, HW)(images)
    same = Fields(taught.heatmaps * 2, taught.affinity * 2, taught.centre, taught.offsets)
    assert float(taught_loss(taught, same)) == pytest.approx(0, abs=1e-3)
    far = replace(same, offsets=taught.offsets + 3.0)
    seen = np.maximum(np.asarray(taught.centre) - 0.1, 0).max()
    assert (float(taught_loss(taught, far)) > 0) == (seen > 0)


def test_a_teacher_is_heard_also_where_the_annotation_says_nothing(network, images):
    taught = Teacher(network, BODYPOSE_18, HW)(images)
    other = replace(taught, heatmaps=(1 - taught.heatmaps[0],))
    heatmaps = keras.ops.concatenate([taught.heatmaps[0], taught.centre], axis=-1)
    nothing = keras.ops.zeros((2, HW[0] // 8, HW[1] // 8, 1))
    nobody = keras.ops.zeros((2, 1, 19, 3))
    masked = Targets(heatmaps, taught.affinity[0], nothing, nobody)
    assert float(field_loss(masked, replace(other, offsets=None))) == 0
    assert float(taught_loss(taught, other)) > 1
