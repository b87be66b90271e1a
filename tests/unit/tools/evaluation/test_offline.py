"""AP of several splits together."""

import pytest

from bodypose_tools.data.coco import DatasetError
from bodypose_tools.evaluation.offline import (
    Split,
    evaluate_model,
    evaluate_splits,
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
    twice = evaluate_splits(*xs, [split, split])
    assert (twice.images, twice.people) == (2 * once.images, 2 * once.people)
    assert twice.ap == pytest.approx(once.ap, abs=0.02)  # ties between copies change ranks
    assert evaluate_splits(*xs, [split]).numbers == once.numbers


def test_a_sample_is_the_same_each_time_and_in_the_files_order(drawn_coco):
    every = Split(drawn_coco / "people.json", drawn_coco).records(BODYPOSE_18)
    some = Split(drawn_coco / "people.json", drawn_coco, 1)
    ids = [record.image_id for record in some.records(BODYPOSE_18)]
    assert ids == [record.image_id for record in some.records(BODYPOSE_18)]
    assert len(ids) == 1
    assert ids == [record.image_id for record in every if record.image_id in ids]
    assert str(some) == "people.json (1)"
    assert Split(drawn_coco / "people.json", drawn_coco, 10**6).records(BODYPOSE_18)[0].image_id


def test_every_annotations_file_has_a_folder(tmp_path):
    with pytest.raises(DatasetError, match="got 1 files and 2 folders"):
        splits_of([tmp_path], [tmp_path, tmp_path], None)
