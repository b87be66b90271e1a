import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_client.errors import AnnotationError
from bodypose_tools.cli import app
from bodypose_tools.data.coco import ImageRecord
from bodypose_tools.files.artifacts import sha256_of
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
