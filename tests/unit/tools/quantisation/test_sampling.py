import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_client.errors import AnnotationError
from bodypose_tools.cli import app
from bodypose_tools.data.coco import ImageRecord
from bodypose_tools.files.artifacts import sha256_of
from bodypose_tools.quantisation import sampling
from bodypose_tools.quantisation.sampling import (
    MANIFEST,
    CalibrationImagesError,
    SamplingSettings,
    choose,
    sample_calibration_images,
)
from pose_runtime.skeleton import BODYPOSE_18
from tests.unit.tools.people import person


def record(image_id: int, people: int, height: float = 50, joints: int = 17) -> ImageRecord:
    one = person(0, 0)
    one[list(BODYPOSE_18.annotated[joints:])] = 0
    return ImageRecord(
        image_id=image_id,
        path=Path(f"{image_id}.jpg"),
        image_hw=(100, 100),
        joints=np.repeat(one[None], people, axis=0),
        boxes=np.tile(np.float32([0, 0, 10, height]), (people, 1)),
        ignored_boxes=np.zeros((0, 4), np.float32),
    )


def chosen(records, **settings) -> list[int]:
    return [r.image_id for r in choose(records, SamplingSettings(**settings), BODYPOSE_18)]


CROWD = [record(i, people=1 + i % 4, height=(10, 40, 90)[i % 3]) for i in range(240)]


def test_the_number_is_exact_and_nothing_is_taken_twice():
    for number in (1, 7, 100, 240):
        ids = chosen(CROWD, num_images=number, seed=42)
        assert len(ids) == len(set(ids)) == number


def test_the_sample_keeps_the_sets_mix_of_people_and_sizes():
    ids = chosen(CROWD, num_images=120, seed=1)
    mix = Counter((min(i % 4, 1), i % 3) for i in ids)
    whole = Counter((min(i % 4, 1), i % 3) for i in range(240))
    assert all(abs(mix[key] - whole[key] / 2) <= 2 for key in whole)


def test_the_seed_decides_and_no_seed_takes_the_first_of_every_class():
    assert chosen(CROWD, num_images=50, seed=3) == chosen(CROWD, num_images=50, seed=3)
    assert chosen(CROWD, num_images=50, seed=3) != chosen(CROWD, num_images=50, seed=4)
    alike = [record(i, people=1) for i in range(9)]
    assert chosen(alike, num_images=3) == [0, 1, 2]


def test_people_count_by_their_labelled_joints_only():
    records = [record(0, people=2, joints=4), record(1, people=1), record(2, people=0)]
    assert chosen(records, num_images=1) == [1]
    assert chosen(records, num_images=2, min_joints=4) == [0, 1]
    assert chosen(records, num_images=1, min_joints=4, min_people=2) == [0]


def test_too_few_images_are_refused_with_their_number():
    with pytest.raises(CalibrationImagesError, match=r"at least 241 images .* got 240 of 240"):
        chosen(CROWD, num_images=241)


def run(drawn_coco, out, *options) -> object:
    files = ("-a", str(drawn_coco / "people.json"), "-i", str(drawn_coco), "-o", str(out))
    return CliRunner().invoke(app, ["sample-calibration-images", *files, *options])


def test_taos_options_copy_the_images_and_a_manifest_names_them(drawn_coco, tmp_path):
    out = tmp_path / "calibration"
    result = run(drawn_coco, out, "-n", "2", "-pth", "1", "-kth", "5", "--randomize", "--seed", "7")
    assert result.exit_code == 0, result.output
    manifest = json.loads((out / MANIFEST).read_text())
    assert manifest["settings"] == {"num_images": 2, "min_people": 1, "min_joints": 5, "seed": 7}
    assert [image["file"] for image in manifest["images"]] == ["1.png", "2.png"]
    for image in manifest["images"]:
        assert sha256_of(out / image["file"]) == image["sha256"]
        assert (out / image["file"]).read_bytes() == (drawn_coco / image["file"]).read_bytes()


def test_a_folder_with_files_in_it_is_left_alone(drawn_coco, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    result = run(drawn_coco, tmp_path, "-n", "1")
    assert isinstance(result.exception, CalibrationImagesError)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_missing_image_is_named_before_anything_is_copied(drawn_coco, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.png").write_bytes((drawn_coco / "1.png").read_bytes())
    settings = SamplingSettings(num_images=2)
    with pytest.raises(AnnotationError, match=r"2\.png.*No such file"):
        sample_calibration_images(drawn_coco / "people.json", images, tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sizes", "total", "shares"),
    [
        ([10, 10], 5, [3, 2]),  # of equal rests the first class
        ([6, 3, 1], 5, [3, 2, 0]),
        ([1, 1, 98], 10, [0, 0, 10]),
        ([5, 5], 10, [5, 5]),
        ([7], 3, [3]),
        ([], 0, []),
    ],
)
def test_shares_are_in_proportion_to_within_one(sizes, total, shares):
    assert sampling._shares(sizes, total) == shares


def record_of(heights, joints=17, image_height=100):
    people = np.zeros((len(heights), 18, 3), np.float32)
    people[:, list(BODYPOSE_18.annotated)[:joints], 2] = 2
    boxes = np.float32([[0, 0, 1, height] for height in heights]).reshape(-1, 4)
    return SimpleNamespace(joints=people, boxes=boxes, image_hw=(image_height, 300))


@pytest.mark.parametrize(
    ("heights", "kind"),
    [
        ([10], (0, 0)),
        ([25], (0, 0)),
        ([25, 26], (1, 1)),
        ([10, 50, 20], (1, 1)),
        ([51], (0, 2)),
        ([1, 2, 3, 100], (2, 2)),
    ],
)
def test_an_images_class_is_its_people_and_the_tallest(heights, kind):
    record = record_of(heights)
    counted = sampling._counted_people(record, SamplingSettings(), BODYPOSE_18)
    assert counted.all()
    assert sampling._class_of(record, counted) == kind
    none = np.zeros(len(heights), bool)
    assert sampling._class_of(record, none) == (0, 0)


@pytest.mark.parametrize(("joints", "counts"), [(4, False), (5, True)])
def test_five_labelled_joints_make_a_person(joints, counts):
    record = record_of([10], joints)
    record.joints[:, BODYPOSE_18.annotated[0], 2] = 1  # hidden, and labelled
    record.joints[:, 1, 2] = 2  # the neck has no label of its own
    settings = SamplingSettings()
    assert (settings.num_images, settings.min_people, settings.seed) == (500, 1, None)
    assert sampling._counted_people(record, settings, BODYPOSE_18).tolist() == [counts]
