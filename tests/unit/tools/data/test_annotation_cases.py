"""Annotations from elsewhere: a right answer or one line, from every command that reads them."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bodypose_client.evaluation import open_split
from bodypose_tools.cli import app
from bodypose_tools.data.annotation_check import checked_coco
from bodypose_tools.data.coco import read_coco
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import BODYPOSE_18
from tests.json_mutants import mutants

CASES = (
    Path(os.environ.get("CASES_DIR", Path(__file__).parents[4].parent / "shared" / "cases"))
    / "coco"
)
needs_cases = pytest.mark.skipif(
    not CASES.is_dir(), reason="needs the drawn cases: set CASES_DIR or put them at ../shared/cases"
)


def outcomes(annotations: Path, images: Path) -> list[object]:
    """What each reader makes of a file: the people it sees, or its one line."""
    readers = [
        lambda: [record.joints.tolist() for record in read_coco(annotations, images, BODYPOSE_18)],
        lambda: [
            record.joints.tolist() for record in checked_coco(annotations, images, BODYPOSE_18)[0]
        ],
        lambda: len(open_split(annotations, images, None).images),
    ]
    found: list[object] = []
    for read in readers:
        try:
            found.append(read())
        except PoseError as error:
            found.append(str(error))
    lines = [line for line in found if isinstance(line, str)]
    assert all(len(line.splitlines()) == 1 and len(line) < 1000 for line in lines)
    return found


def commands(annotations: Path, images: Path, out: Path) -> list[list[str]]:
    """Commands that read annotations, without a network."""
    given = ["-a", str(annotations), "-i", str(images)]
    return [
        ["sample-calibration-images", *given, "-n", "1", "-o", str(out / "sample")],
        ["sample-calibration-images", *given, "-n", "1", "-o", str(out / "s"), "--check-images"],
    ]


@needs_cases
@pytest.mark.parametrize("case", sorted(CASES.glob("*.json")), ids=lambda path: path.stem)
def test_a_case_is_a_right_answer_or_one_line(tmp_path, case):
    for arguments in commands(case, CASES / "img", tmp_path):
        result = CliRunner().invoke(app, arguments)
        assert result.exception is None or isinstance(result.exception, PoseError | SystemExit)
    base = outcomes(CASES / "base.json", CASES / "img")
    read, checked, split = outcomes(case, CASES / "img")
    if isinstance(read, list):
        assert len(read) == split
        assert all(len(people) <= 1 for people in read)  # no car, horse or crowd is a person
        if case.stem not in ("keypoint_nan_v0", "keypoint_negative", "keypoints_empty"):
            assert [read, checked, split] == base
    elif "annotations[" in read or "images[" in read or "categories" in read:
        assert read == checked == split  # the same files are refused, in the same words


@needs_cases
@pytest.mark.parametrize("folder", ["img_bad", "img_gif"])
def test_an_image_that_no_network_could_see_is_found_at_the_start(tmp_path, folder):
    read, checked, _ = outcomes(CASES / "base.json", CASES / folder)
    assert "image 2 (" in read
    assert len(checked) == 3
    arguments = commands(CASES / "base.json", CASES / folder, tmp_path)[0]
    assert isinstance(CliRunner().invoke(app, arguments).exception, PoseError)
    assert list(tmp_path.iterdir()) == []


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
