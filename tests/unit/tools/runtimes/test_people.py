"""People of encoded images: batches and threads change nothing, and bad images stop nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bodypose_client.errors import FileError
from bodypose_tools.runtimes.people import people_in
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.errors import NotFinite
from tests.greys import grey_png
from tests.serving import SPEC


@dataclass(frozen=True)
class Given:
    name: str
    data: bytes | None

    def read(self) -> bytes:
        if self.data is None:
            raise FileError("absent", "a file", OSError("nothing there"))
        return self.data


IMAGES = [
    *(Given(f"{grey}", grey_png(grey)) for grey in (5, 6, 7)),
    Given("no image", b"no image"),
    Given("no file", None),
    *(Given(f"{grey}", grey_png(grey)) for grey in (40, 8, 9)),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory, tiny_onnx):
    predict, spec, _ = open_predictor(
        tiny_onnx(tmp_path_factory.mktemp("net") / "t.onnx", SPEC, nan_above=5)
    )
    return predict, spec


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
@pytest.mark.parametrize("decoders", [0, 3])
def test_each_image_gets_its_own_answer_in_its_turn(network, batch, decoders):
    predict, spec = network
    found = list(people_in(iter(IMAGES), predict, spec, batch, decoders))

    assert [each.name for each in found] == [image.name for image in IMAGES]
    good = [each for each in found if each.error is None]
    seen = [round(6 * (float(each.poses.keypoints[0, 0, 0]) - 1)) for each in good]
    assert seen == [5, 6, 7, 8, 9]
    assert {each.image_hw for each in good} == {(32, 48)}
    bad = {each.name: each for each in found if each.error is not None}
    assert set(bad) == {"no image", "no file", "40"}
    assert isinstance(bad["40"].error, NotFinite)
    assert (bad["no file"].data, bad["no image"].image_hw) == (b"", None)
    assert all(each.poses is None for each in bad.values())


def test_images_are_read_as_answers_are_taken(network):
    predict, spec = network
    read = []

    def endless():
        while True:
            read.append(1)
            yield IMAGES[0]

    found = people_in(endless(), predict, spec, 2, 3)
    for _ in range(4):
        next(found)
    found.close()
    assert len(read) <= 4 + 2 * 3 + 2


def test_threads_do_not_change_the_answer(tmp_path, tiny_onnx):
    model = tiny_onnx(tmp_path / "t.onnx", SPEC)
    answers = []
    for threads in (1, 2):
        predict, spec, _ = open_predictor(model, threads=threads)
        answers.append([each.poses for each in people_in(IMAGES[:3], predict, spec)])
    for one, two in zip(*answers, strict=True):
        np.testing.assert_array_equal(one.keypoints, two.keypoints)
