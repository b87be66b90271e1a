"""Every case of annotations, and mutants of one, through every command that takes annotations."""

from __future__ import annotations

import shutil

import pytest

from tests.annotation_walk import BESIDE, CASES, asked, check, needs_cases
from tests.file_mutants import json_mutant, mutants_of

MUTANTS = 200  # for each command, more than half of them JSON


@needs_cases
@pytest.mark.parametrize("name", BESIDE)
def test_every_case_is_a_right_answer_or_one_line_from_every_command(tmp_path, name):
    for number, case in enumerate(sorted(CASES.glob("*.json"))):
        flags = ["--check-images"] if number % 2 else []
        check(name, case, CASES / "img", tmp_path / str(number), *flags)


@pytest.mark.parametrize("name", BESIDE)
def test_a_mutant_is_a_right_answer_or_one_line_from_every_command(tmp_path, drawn_coco, name):
    images = tmp_path / "img"
    images.mkdir()
    for image in ("1.png", "2.png"):
        shutil.copyfile(drawn_coco / image, images / image)
    right = (drawn_coco / "people.json").read_bytes()
    for number, content in mutants_of(name, right, json_mutant, MUTANTS):
        mutant = tmp_path / f"{number}.json"
        mutant.write_bytes(content)
        check(name, mutant, images, tmp_path / str(number))


def test_a_planted_traceback_is_found(tmp_path, drawn_coco, monkeypatch):
    def planted(*arguments, **options):
        raise KeyError("bbox")

    monkeypatch.setattr("bodypose_client.image_check.load_coco", planted)
    with pytest.raises(KeyError):
        asked("tools gate", drawn_coco / "people.json", drawn_coco, tmp_path)
