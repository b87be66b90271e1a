"""Annotations from elsewhere: a right answer or one line, from every command that reads them."""

import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.annotation_walk import (
    BESIDE,
    CASES,
    IN_THE_FILE,
    TAKING,
    asked,
    check,
    needs_cases,
    outcomes,
)
from tests.json_mutants import mutants


def test_every_command_that_takes_annotations_is_walked_and_checks_images_on_request():
    assert TAKING.keys() == BESIDE.keys()
    assert all(each.params_named("--check-images") for each in TAKING.values())


@needs_cases
@pytest.mark.parametrize("name", BESIDE)
def test_a_case_is_a_right_answer_or_one_line_from_every_command(tmp_path, name):
    # A few for each command, in turn; tests/fuzz has all of them.
    for number, case in list(enumerate(sorted(CASES.glob("*.json"))))[
        list(BESIDE).index(name) :: 9
    ]:
        flags = ["--check-images"] if number % 2 else []
        check(name, case, CASES / "img", tmp_path / str(number), *flags)


@needs_cases
@pytest.mark.parametrize("case", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_all_readers_see_the_same_people(case):
    base = outcomes(CASES / "base.json", CASES / "img")
    read, checked, split = outcomes(case, CASES / "img")
    if isinstance(read, list):
        assert len(read) == split
        assert all(len(people) <= 1 for people in read)  # no car, horse or crowd is a person
        if case.stem not in ("keypoint_nan_v0", "keypoint_negative", "keypoints_empty"):
            assert [read, checked, split] == base
    elif any(each in read for each in IN_THE_FILE):
        assert read == checked == split  # the same files are refused, in the same words


@needs_cases
@pytest.mark.parametrize("folder", ["img_bad", "img_gif"])
def test_an_image_that_no_network_could_see_is_found_at_the_start(tmp_path, folder):
    read, checked, _ = outcomes(CASES / "base.json", CASES / folder)
    assert "image 2 (" in read
    assert len(checked) == 3
    line = asked("tools sample-calibration-images", CASES / "base.json", CASES / folder, tmp_path)
    assert "image 2 (" in line
    assert not (tmp_path / "s").exists()


@pytest.fixture(scope="module")
def drawn(drawn_coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutants")
    for name in ("1.png", "2.png"):
        shutil.copyfile(drawn_coco / name, folder / name)
    return folder, json.loads((drawn_coco / "people.json").read_text())


MUTANTS = int(os.environ.get("ANNOTATION_MUTANTS", "150"))


@settings(
    max_examples=MUTANTS,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_a_mutant_is_a_right_answer_or_one_line(drawn, data):
    folder, content = drawn
    (folder / "people.json").write_text(json.dumps(data.draw(mutants(content))))
    outcomes(folder / "people.json", folder)


def test_a_planted_traceback_is_found(drawn, monkeypatch):
    folder, content = drawn
    (folder / "people.json").write_text(json.dumps(content))

    def planted(*arguments):
        raise KeyError("bbox")

    monkeypatch.setattr("bodypose_tools.data.coco.image_record_from_coco", planted)
    with pytest.raises(KeyError):
        outcomes(folder / "people.json", folder)
