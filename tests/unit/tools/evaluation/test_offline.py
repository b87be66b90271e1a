"""AP of several splits together."""

from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest

from bodypose_tools.data.coco import DatasetError
from bodypose_tools.evaluation.offline import (
    Split,
    evaluate_model,
    evaluate_pool,
    pool,
    sampled,
    splits_of,
)
from bodypose_tools.files.settings import ShippedModel
from bodypose_tools.files.shipped import float_graph
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.skeleton import BODYPOSE_18


@pytest.fixture(scope="module")
def xs():
    predict, spec, _ = open_predictor(float_graph(ShippedModel.BODYPOSE_XS))
    return predict, spec


def test_a_split_twice_has_the_ap_of_once(drawn_coco, xs):
    """The same ids are other images in another split, so every person is found twice."""
    split = Split(drawn_coco / "people.json", drawn_coco)
    once = evaluate_model(*xs, split.annotations, split.images)
    both = pool([split, split], BODYPOSE_18)
    twice = evaluate_pool(*xs, both)
    assert (twice.images, twice.people) == (2 * once.images, 2 * once.people)
    assert twice.ap == pytest.approx(once.ap, abs=0.02)  # ties between copies change ranks
    assert evaluate_pool(*xs, pool([split], BODYPOSE_18)).numbers == once.numbers


def test_a_pool_is_read_once_for_any_number_of_models(drawn_coco, xs, tmp_path):
    annotations = Path(copy(drawn_coco / "people.json", tmp_path))
    images = pool([Split(annotations, drawn_coco)], BODYPOSE_18)
    annotations.unlink()
    assert evaluate_pool(*xs, images) == evaluate_pool(*xs, images)


def test_a_pool_is_for_networks_of_its_skeleton(drawn_coco, xs):
    images = pool([Split(drawn_coco / "people.json", drawn_coco)], BODYPOSE_18)
    other = replace(BODYPOSE_18, name="other")
    with pytest.raises(DatasetError, match=r"of skeleton other, .* of bodypose_18$"):
        evaluate_pool(*xs, replace(images, skeleton=other))


def test_a_sample_is_the_same_each_time_and_in_the_files_order(drawn_coco):
    assert sampled(range(9), None) == sampled(range(9), 10**6) == list(range(9))
    few = sampled(range(9), 3)
    assert few == sorted(few) == sampled(range(9), 3)
    assert len(few) == 3
    some = Split(drawn_coco / "people.json", drawn_coco, 1)
    assert str(some) == "people.json (1)"
    assert len(pool([some], BODYPOSE_18).records) == 1


def test_every_annotations_file_has_a_folder(tmp_path):
    with pytest.raises(DatasetError, match="got 1 files and 2 folders"):
        splits_of([tmp_path], [tmp_path, tmp_path], None)
