"""Annotations with errors: each is listed, counted and left out, the rest is used."""

import csv
import json
from pathlib import Path

import pytest

from bodypose_client.errors import AnnotationError
from bodypose_tools.data.annotation_check import checked_coco, summary, write_problems
from bodypose_tools.data.coco import DatasetError, read_coco
from bodypose_tools.training.processes import Processes
from bodypose_tools.training.spec import TrainSpec
from bodypose_tools.training.train import _checked_records
from pose_runtime.skeleton import BODYPOSE_18
from tests.unit.tools.training.test_train import spec_for

NOSE = 0


@pytest.fixture
def broken(drawn_coco, tmp_path):
    """The drawn set in `tmp_path`, changed by what a test does to it."""

    def write(change) -> Path:
        content = json.loads((drawn_coco / "people.json").read_text())
        for image in content["images"]:
            name = image["file_name"]
            (tmp_path / name).write_bytes((drawn_coco / name).read_bytes())
        change(content)
        (tmp_path / "people.json").write_text(json.dumps(content))
        return tmp_path

    return write


def check(folder: Path):
    return checked_coco(folder / "people.json", folder, BODYPOSE_18)


def test_a_sound_set_has_no_problems_and_the_same_records(drawn_coco):
    records, problems = check(drawn_coco)
    assert problems == []
    plain = read_coco(drawn_coco / "people.json", drawn_coco, BODYPOSE_18)
    assert [record.joints.tolist() for record in records] == [
        record.joints.tolist() for record in plain
    ]


def test_a_missing_image_is_skipped(broken):
    folder = broken(lambda content: content["images"][0].update(file_name="gone.png"))
    records, problems = check(folder)
    assert [record.image_id for record in records] == [2]
    assert [(problem.kind, problem.image_id) for problem in problems] == [("image missing", 1)]
    assert problems[0].detail.endswith("gone.png")


def test_no_image_at_all_is_an_error(broken):
    def rename(content):
        for image in content["images"]:
            image["file_name"] = "gone.png"

    with pytest.raises(DatasetError, match="got none of its 2 there; correct images_root_dir_path"):
        check(broken(rename))


@pytest.mark.parametrize(("x", "is_outside"), [(-0.5, False), (-0.6, True), (223.6, True)])
def test_a_keypoint_outside_is_left_out_and_the_person_stays(broken, x, is_outside):
    """COCO counts from the middle of the first pixel: the image goes from -0.5 to 223.5."""
    records, problems = check(broken(lambda content: set_nose(content, x)))
    assert (records[0].joints[0, NOSE, 2] == 0) == is_outside
    assert (records[0].joints[0, 1:, 2] > 0).all()
    assert [problem.kind for problem in problems] == ["keypoint outside the image"] * is_outside


def set_nose(content, x: float) -> None:
    content["annotations"][0]["keypoints"][0] = x


@pytest.mark.parametrize("change", [{"bbox": [3, 4, 0, 9]}, {"area": 0.0}])
def test_a_person_of_zero_area_is_skipped(broken, change):
    records, problems = check(broken(lambda content: content["annotations"][1].update(change)))
    assert [len(record.joints) for record in records] == [1, 1]
    assert [(problem.kind, problem.annotation_id) for problem in problems] == [
        ("person of zero area", 2)
    ]


def test_a_wrong_number_of_keypoints_is_refused_as_by_every_reader(broken):
    folder = broken(lambda content: content["annotations"][0]["keypoints"].pop())
    with pytest.raises(AnnotationError, match=r"annotations\[0\]\.keypoints: .* a list of 50"):
        check(folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def test_an_image_that_cannot_be_used_is_skipped(broken):
    folder = broken(lambda content: content["images"][1].update(height=224, width=160))
    records, problems = check(folder)
    assert [record.image_id for record in records] == [1]
    assert [(problem.kind, problem.image_id) for problem in problems] == [
        ("image that cannot be used", 2)
    ]
    assert problems[0].detail.endswith("they are swapped")
    cut(folder / "1.png")
    with pytest.raises(DatasetError, match=r"that can be used, got none of 2; .*1\.png: "):
        check(folder)


def test_damage_inside_an_image_is_found_on_request(broken):
    folder = broken(lambda content: None)
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[:9000] + bytes(5000) + whole[14000:])
    assert check(folder)[1] == []
    problems = checked_coco(folder / "people.json", folder, BODYPOSE_18, check_images=True)[1]
    assert [problem.image_id for problem in problems] == [2]


def test_an_annotation_of_no_image_is_skipped(broken):
    folder = broken(lambda content: content["annotations"][0].update(image_id=77))
    assert [(problem.kind, problem.image_id) for problem in check(folder)[1]] == [
        ("annotation of an unknown image", 77)
    ]


def test_people_whose_file_does_not_count_their_keypoints_are_used(broken):
    folder = broken(lambda content: content["annotations"][0].pop("num_keypoints"))
    assert len(check(folder)[0][0].joints) == 1


def test_problems_are_counted_by_kind_and_listed_in_a_csv(broken, tmp_path):
    def spoil(content):
        set_nose(content, -9)
        content["annotations"][1]["area"] = 0

    problems = check(broken(spoil))[1]
    assert summary(problems) == [
        "1 x keypoint outside the image (keypoint left out), first image 1, annotation 1: keypoint"
        " 0 at -9, 29.1 of 224 x 160",
        "1 x person of zero area (person skipped), first image 2, annotation 2: area 0",
    ]
    write_problems(problems, tmp_path / "problems.csv")
    rows = list(csv.DictReader((tmp_path / "problems.csv").read_text().splitlines()))
    assert [row["annotation_id"] for row in rows] == ["1", "2"]


def test_training_says_what_it_leaves_out(broken, tmp_path):
    spec: TrainSpec = spec_for(broken(lambda content: set_nose(content, -9)), 1)
    said: list[str] = []
    records = _checked_records(spec, tmp_path / "run", said.append)
    assert len(records) == 2
    assert said[0].startswith("warning: ")
    assert "1 problems, see" in said[0]
    assert (tmp_path / "run" / "annotation_problems.csv").is_file()


def test_of_several_processes_the_first_alone_says_and_lists_it(broken, tmp_path):
    spec = spec_for(broken(lambda content: set_nose(content, -9)), 1)
    said: list[str] = []
    for rank in (1, 2):
        records = _checked_records(
            spec, tmp_path / "run", said.append, processes=Processes(3, rank)
        )
        assert len(records) == 2
    assert said == []
    assert not (tmp_path / "run").exists()
    _checked_records(spec, tmp_path / "run", said.append, processes=Processes(3, 0))
    assert "1 problems, see" in said[0]
