import json
import os
import signal

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from pose_runtime.errors import PoseError
from pose_runtime.poses import Poses


def test_evaluate_prints_and_writes_the_ten_numbers(run, split, tmp_path):
    annotations, images = split
    scores, people = tmp_path / "new" / "scores.json", tmp_path / "people.json"

    result = run(
        *("evaluate", "-a", annotations, "-i", images, "--limit", "1"),
        *("--json", scores, "--results", people, "--url", "http://host:1"),
    )

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["AP", "1.000"]
    assert lines[10].startswith("1 images with 1 people, person_keypoints.json; ")
    written = json.loads(scores.read_text())
    assert written["metrics"]["AP"] == pytest.approx(1)
    assert len(written["metrics"]) == 10
    assert written["model"]["sha256"] == "ab" * 32
    assert (written["images"], written["protocol"], written["url"]) == (
        1,
        "http",
        "http://host:1/bodypose",
    )
    (person,) = json.loads(people.read_text())
    assert (person["image_id"], len(person["keypoints"])) == (1, 51)


def test_evaluate_counts_people_invented_in_images_without_people(run, split):
    annotations, images = split

    result = run("evaluate", "-a", annotations, "-i", images)

    # Both images have the same score; the invented person may come first or second.
    assert result.exit_code == 0
    assert "2 images with 1 people" in result.stdout


def test_evaluate_when_nobody_is_found(run, split):
    annotations, images = split

    result = run("evaluate", "-a", annotations, "-i", images, answer=lambda _: Poses.empty(18))

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].split()[:2] == ["AP", "0.000"]


def test_evaluate_goes_on_after_a_refused_image_and_says_so(run, split):
    annotations, images = split
    (images / "2.jpg").write_bytes(b"hello")

    result = run("evaluate", "-a", annotations, "-i", images)

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {images / '2.jpg'}: image: expected JPEG")
    assert result.stdout.splitlines()[0].split()[:2] == ["AP", "1.000"]


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda annotations, images: (images / "2.jpg").unlink(), "2.jpg is missing"),
        (lambda annotations, images: annotations.write_text("{}"), "expected lists"),
        (
            lambda annotations, images: annotations.write_text(
                annotations.read_text().replace('"nose"', '"beak"')
            ),
            "expected keypoints nose",
        ),
        (
            lambda annotations, images: annotations.write_text(
                annotations.read_text().replace('"width": 60', '"width": 61')
            ),
            "1.jpg): expected width 60 and height 100, as in the file, got 61 and 100",
        ),
    ],
)
def test_evaluate_names_what_does_not_fit(run, split, break_it, words):
    annotations, images = split
    break_it(annotations, images)

    result = run("evaluate", "-a", annotations, "-i", images)

    assert isinstance(result.exception, PoseError)
    assert words in str(result.exception)


def test_results_are_what_the_official_evaluator_loads(run, split, tmp_path):
    annotations, images = split
    people = tmp_path / "people.json"

    run("evaluate", "-a", annotations, "-i", images, "--results", people)

    loaded = COCO(str(annotations)).loadRes(str(people))
    assert len(loaded.getAnnIds()) == 2
    assert {len(person["keypoints"]) for person in loaded.anns.values()} == {51}


def test_ap_is_split_by_people_per_image(run, split, tmp_path):
    annotations, images = split

    result = run("evaluate", "-a", annotations, "-i", images, "--json", tmp_path / "scores.json")

    lines = result.stdout.splitlines()[-3:]
    assert lines[0] == "AP     1.000  with 1 people an image (1 images, 1 people)"
    assert lines[1].split()[:2] == ["AP", "n/a"]
    groups = json.loads((tmp_path / "scores.json").read_text())["by_people_per_image"]
    assert groups["1"] == {"AP": pytest.approx(1), "images": 1, "people": 1}
    assert groups["5+"]["images"] == 0


def test_the_worst_images_are_drawn_beside_their_annotations(run, split, tmp_path):
    annotations, images = split
    sheet = tmp_path / "sheet.png"

    def far_off(pixels):
        keypoints = np.full((1, 18, 3), 0.5, np.float32)
        keypoints[0, :, 0], keypoints[0, :, 1] = 5, np.linspace(1, 20, 18)
        return Poses(keypoints, np.float32([0.5]))

    result = run(
        *("evaluate", "-a", annotations, "-i", images, "--sheet", sheet, "--worst", "1"),
        answer=far_off,
    )

    assert result.exit_code == 0
    drawn = cv2.imread(str(sheet)).astype(int)
    left, right = np.split(drawn[:, 10:-10], 2, axis=1)
    middle = slice(170, 190)  # columns of the annotated person, in a picture 360 wide
    assert drawn.shape[1] == 2 * 360 + 20
    assert (abs(left[40:-20, middle] - 90).max(axis=2) > 30).any()
    assert not (abs(right[40:-20, middle] - 90).max(axis=2) > 30).any()


def test_two_results_are_compared_without_a_server(run, split, tmp_path):
    annotations, images = split
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    run("evaluate", "-a", annotations, "-i", images, "--results", good)
    bad.write_text("[]")

    result = run(
        *("evaluate", "-a", annotations, "--compare", bad, good),
        *("--resamples", "50", "--json", tmp_path / "c.json"),
    )

    assert result.exit_code == 0
    assert result.stdout.splitlines()[2].startswith("B-A   +")
    written = json.loads((tmp_path / "c.json").read_text())
    assert (written["ap_a"], written["images"], written["seed"]) == (0, 2, 0)
    assert written["difference"] == pytest.approx(written["ap_b"])


PERSON = {"image_id": 1, "score": 0.5, "keypoints": [1.0, 2.0, 0.5] * 17}


def person(**changes):
    return json.dumps([{**PERSON, **changes}])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "nested too deep"),
        ('[{"image_id": 1, "score": NaN, "keypoints": []}]', "NaN, which is no number of JSON"),
        ('[{"image_id": 1, "score": Infinity}]', "Infinity, which is no number"),
        ("null", "expected a list of people, got NoneType"),
        (json.dumps([PERSON, 1]), "entry 1: expected an object"),
        (person(image_id=None), "entry 0: expected image_id"),
        (person(image_id=[1]), "entry 0: expected image_id"),
        (person(image_id=True), "entry 0: expected image_id"),
        (person(score="0.5"), "entry 0: expected score"),
        (person(score=1e300), "entry 0: expected score"),
        (person(keypoints=None), "entry 0: expected keypoints"),
        (person(keypoints={"x": 1}), "entry 0: expected keypoints"),
        (person(keypoints=[1, 2]), "entry 0: expected keypoints"),
        (person(keypoints=[[1, 2, 3]] * 17), "entry 0: expected keypoints"),
        (person(keypoints=[1, 2, "3"] * 17), "entry 0: expected keypoints"),
        (person(keypoints=[1, 2, 0.5] * 4), "expected 17 keypoints"),
    ],
)
def test_results_of_others_are_one_line_with_the_entry_and_its_field(
    run, split, tmp_path, text, words
):
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(text)

    result = run(
        *("evaluate", "-a", split[0], "--compare", tmp_path / "a.json", tmp_path / "b.json")
    )

    assert isinstance(result.exception, PoseError), result.exception
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("text", ["{", "{}"])
def test_results_that_are_none_are_named(run, split, tmp_path, text):
    (tmp_path / "a.json").write_text(text)

    result = run(
        *("evaluate", "-a", split[0], "--compare", tmp_path / "a.json", tmp_path / "b.json")
    )

    assert isinstance(result.exception, PoseError)
    assert "a.json: expected" in str(result.exception)


def test_check_images_decodes_them_before_the_first_is_sent(run, split):
    annotations, images = split
    assert run("evaluate", "-a", annotations, "-i", images, "--check-images").exit_code == 0
    whole = (images / "2.jpg").read_bytes()
    (images / "2.jpg").write_bytes(whole[: len(whole) // 2])

    def never(pixels):
        raise AssertionError("an image was sent")

    result = run("evaluate", "-a", annotations, "-i", images, "--check-images", answer=never)

    assert isinstance(result.exception, PoseError)
    assert f"image 2 ({images / '2.jpg'}): " in str(result.exception)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_gives_the_numbers_of_what_was_answered(
    run, one_person, write_image, split, tmp_path
):
    annotations, images = split
    content = json.loads(annotations.read_text())
    for number in range(3, 31):
        write_image(f"val/{number}.jpg")
        image = {"id": number, "file_name": f"{number}.jpg", "height": 48, "width": 64}
        content["images"].append(image)
    annotations.write_text(json.dumps(content))
    asked = []

    def interrupted(pixels):
        asked.append(pixels)
        if len(asked) == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return one_person(pixels)

    result = run(
        *("evaluate", "-a", annotations, "-i", images, "--in-flight", "1"),
        *("--results", tmp_path / "people.json"),
        answer=interrupted,
    )

    assert result.exit_code == 130
    people = json.loads((tmp_path / "people.json").read_text())
    assert f"interrupted: the numbers are of {len(people)} images" in result.stderr
    assert 7 <= len(people) < 20
