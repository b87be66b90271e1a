"""`pose-client infer` over many images, in every format, interrupted and gone on with."""

import csv
import io
import json
import logging
import os
import signal

import pytest

from bodypose_client.errors import ServerBusy
from bodypose_client.formats import poses_from_record
from pose_runtime.errors import PoseError
from pose_runtime.poses import Poses


@pytest.fixture
def folder(write_image, tmp_path):
    """Three images, one of them deeper, and a file that is none."""
    for name in ("in/1.jpg", "in/2.png", "in/deeper/3.jpg"):
        write_image(name)
    (tmp_path / "in/notes.txt").write_text("hello")
    return tmp_path / "in"


def test_a_folder_is_searched_through(run, folder):
    result = run("infer", folder, "--json")

    assert result.exit_code == 0
    names = [json.loads(line)["image"]["id"] for line in result.stdout.splitlines()]
    assert names == ["1.jpg", "2.png", "deeper/3.jpg"]


def test_a_pattern_finds_images(run, folder):
    result = run("infer", folder / "**" / "*.jpg", "--json")

    names = [json.loads(line)["image"]["id"] for line in result.stdout.splitlines()]
    assert names == ["1.jpg", "deeper/3.jpg"]


def test_a_json_list_names_images(run, folder, tmp_path):
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([str(folder / "2.png"), str(folder / "deeper")]))

    result = run("infer", listed, "--json")

    names = [json.loads(line)["image"]["id"] for line in result.stdout.splitlines()]
    assert names == ["2.png", "3.jpg"]


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", "[]", '["other.json"]'])
def test_other_json_is_no_list_of_images(run, tmp_path, text):
    (tmp_path / "list.json").write_text(text)

    result = run("infer", tmp_path / "list.json")

    assert isinstance(result.exception, PoseError)
    assert "list.json: expected a JSON list of image paths, got" in str(result.exception)


@pytest.mark.parametrize("argument", ["", "*.gif"])
def test_nothing_found_is_said(run, tmp_path, argument):
    (tmp_path / "empty").mkdir()

    result = run("infer", tmp_path / "empty" / argument)

    assert isinstance(result.exception, PoseError)
    assert str(result.exception).startswith(f"{tmp_path / 'empty' / argument}: expected images")


def test_a_picture_comes_from_stdin(run, write_image, tmp_path):
    data = write_image("photo.jpg", (48, 64)).read_bytes()

    result = run("infer", "-", "--json", "--visualize", tmp_path / "out", input=data)

    assert json.loads(result.stdout)["image"] == {"id": "stdin", "width": 64, "height": 48}
    assert (tmp_path / "out" / "stdin.jpg").is_file()


def test_coco_is_one_array(run, write_image):
    result = run("infer", write_image("000139.jpg"), write_image("b.png"), "--format", "coco")

    people = json.loads(result.stdout)
    assert [person["image_id"] for person in people] == [139, "b.png"]
    assert {len(person["keypoints"]) for person in people} == {51}


def test_coco_ids_of_two_folders_are_not_mixed_up(run, write_image, tmp_path):
    for name in ("in/a/0001.jpg", "in/b/0001.jpg", "in/0002.jpg"):
        write_image(name)

    people = json.loads(run("infer", tmp_path / "in", "--format", "coco").stdout)

    assert [person["image_id"] for person in people] == [2, "a/0001.jpg", "b/0001.jpg"]


def test_coco_of_nobody_is_an_empty_array(run, write_image):
    result = run(
        *("infer", write_image("a.jpg"), "--format", "coco"), answer=lambda _: Poses.empty(18)
    )

    assert json.loads(result.stdout) == []


def test_openpose_is_one_object_per_image_and_line(run, folder):
    lines = run("infer", folder, "--format", "openpose").stdout.splitlines()

    assert [len(json.loads(line)["people"][0]["pose_keypoints_2d"]) for line in lines] == [54] * 3


def test_csv_has_a_header_and_one_row_per_person(run, folder):
    rows = list(csv.DictReader(io.StringIO(run("infer", folder, "--format", "csv").stdout)))

    assert [row["image"] for row in rows] == ["1.jpg", "2.png", "deeper/3.jpg"]
    assert (rows[0]["person"], rows[0]["score"], rows[0]["nose_x"]) == ("1", "0.5", "32.0")
    assert len(rows[0]) == 7 + 3 * 18


@pytest.mark.parametrize(
    ("form", "suffix"),
    [
        ("json", ".json"),
        ("coco", ".coco.json"),
        ("openpose", "_keypoints.json"),
        ("csv", ".csv"),
    ],
)
def test_output_has_one_file_for_each_image(run, folder, tmp_path, form, suffix):
    out = tmp_path / "out"

    result = run("infer", folder, "--output", out, "--format", form)

    assert result.stdout == f"{out}: 3 written, 0 refused\n"
    assert (out / f"deeper/3.jpg{suffix}").is_file()
    alone = run("infer", folder / "1.jpg", "--format", form).stdout
    if form != "json":  # which has its own time
        assert (out / f"1.jpg{suffix}").read_text() == alone


def test_a_second_run_skips_what_is_there(run, folder, tmp_path):
    out = tmp_path / "out"
    run("infer", folder, "--output", out)
    before = (out / "1.jpg.json").stat().st_mtime_ns
    (out / "2.png.json").unlink()

    result = run("infer", folder, "--output", out)

    assert result.stderr == "skipped 2 images whose results are there (--overwrite)\n"
    assert result.stdout == f"{out}: 1 written, 0 refused\n"
    assert (out / "1.jpg.json").stat().st_mtime_ns == before
    assert run("infer", folder, "--output", out, "--overwrite").stdout.endswith(
        ": 3 written, 0 refused\n"
    )


def test_a_missing_picture_is_not_done(run, folder, tmp_path):
    out = tmp_path / "out"
    run("infer", folder, "--output", out)

    result = run("infer", folder, "--output", out, "--visualize", tmp_path / "drawn")

    assert result.stdout == f"{out}: 3 written, 0 refused\n"
    assert (tmp_path / "drawn" / "3.jpg").is_file()


def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(run, one_person, write_image, tmp_path):
    for number in range(30):
        write_image(f"many/{number:02}.jpg")
    asked = []

    def interrupted(pixels):
        asked.append(pixels)
        if len(asked) == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return one_person(pixels)

    out = tmp_path / "out"
    first = run(
        *("infer", tmp_path / "many", "--output", out, "--in-flight", "2"), answer=interrupted
    )

    done = sorted(path.name for path in out.iterdir())
    assert first.exit_code == 130
    assert f"interrupted: {len(done)} of 30 images are done" in first.stderr
    assert 9 <= len(done) < 20
    for path in out.iterdir():
        assert len(poses_from_record(json.loads(path.read_text()), num_joints=18)) == 1
    second = run("infer", tmp_path / "many", "--output", out)
    assert second.stdout == f"{out}: {30 - len(done)} written, 0 refused\n"


def test_images_of_the_same_name_keep_their_results_apart(run, write_image, tmp_path):
    first, second = write_image("a/photo.jpg", (10, 20)), write_image("b/photo.jpg", (30, 40))

    run("infer", first, second, "--output", tmp_path / "out")

    widths = [
        json.loads((tmp_path / "out" / name).read_text())["image"]["width"]
        for name in ("photo.jpg.json", "photo-2.jpg.json")
    ]
    assert widths == [20, 40]


def test_json_and_another_format_contradict(run, write_image):
    assert run("infer", write_image("a.jpg"), "--json", "--format", "csv").exit_code == 2


def test_verbose_shows_what_is_tried_again(run, write_image, one_person):
    asked = []

    def answer(pixels):
        asked.append(pixels)
        if len(asked) == 1:
            raise ServerBusy("grpc://here", "queue full")
        return one_person(pixels)

    quiet = run("infer", write_image("a.jpg"), answer=one_person)
    try:
        shown = run("--verbose", "infer", write_image("a.jpg"), answer=answer)
    finally:
        log = logging.getLogger("bodypose_client")
        log.setLevel(logging.NOTSET)
        log.handlers = [each for each in log.handlers if type(each) is logging.NullHandler]

    assert (quiet.exit_code, quiet.stderr) == (shown.exit_code, "") == (0, "")
    assert len(asked) == 2
    assert shown.stderr.startswith("INFO: grpc://here: expected a place in the queue")
