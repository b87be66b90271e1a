import json
import subprocess
import sys

import cv2
import pytest
from typer.testing import CliRunner

from bodypose_client import cli
from bodypose_client.formats import poses_from_record

UNUSED = "grpc://127.0.0.1:9"


def test_infer_says_who_was_found(run, write_image):
    photo = write_image("photo.jpg", (100, 60))

    result = run("infer", photo)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{photo}: 1 person",
        "   1  score 0.50  joints 18/18  box 0 x 98 at 30, 1",
    ]


def test_infer_leaves_out_people_below_min_score(run, write_image):
    result = run("infer", write_image("photo.jpg"), "--min-score", "0.6")

    assert result.stdout.endswith("photo.jpg: 0 people\n")


def test_json_is_one_object_per_image_and_line(run, write_image):
    result = run("infer", "--json", write_image("a.jpg", (48, 64)), write_image("b.png", (10, 20)))

    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["image"] for record in records] == [
        {"id": "a.jpg", "width": 64, "height": 48},
        {"id": "b.png", "width": 20, "height": 10},
    ]
    assert records[0]["model"] == {"name": "bodypose", "version": "3", "sha256": "ab" * 32}
    assert records[1]["timing_ms"]["request"] >= 0
    poses = poses_from_record(records[0], num_joints=18)
    assert poses.keypoints[0, 0].tolist() == [32, 1, 0.5]


def test_a_bad_image_is_one_line_and_the_others_go_on(run, write_image, tmp_path):
    good, also_good = write_image("a.jpg"), write_image("b.jpg")
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    absent = tmp_path / "absent.jpg"

    result = run("infer", good, text, absent, also_good, "--visualize", tmp_path / "out")

    assert result.exit_code == 1
    assert result.stdout.count("1 person") == 2
    errors = result.stderr.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"error: {text}: image: expected JPEG, PNG, WebP or BMP bytes")
    assert errors[1] == f"error: {absent}: expected an image file, got 'No such file or directory'"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg"]


def test_visualize_draws_on_the_photo(run, write_image, tmp_path):
    photo, out = write_image("photo.png", (200, 100)), tmp_path / "out.png"

    result = run("infer", photo, "--visualize", out)

    assert result.exit_code == 0
    before, after = cv2.imread(str(photo)), cv2.imread(str(out))
    assert (before == 90).all()
    assert (after[:, 50] != 90).any()
    assert (after[:, :20] == 90).all()


def test_boxes_frame_each_person(run, write_image, tmp_path):
    photo, out = write_image("photo.png", (200, 100)), tmp_path / "out.png"

    result = run("infer", photo, "--visualize", out, "--boxes")

    assert result.exit_code == 0
    after = cv2.imread(str(out)).astype(int)
    framed = (abs(after - 90).max(axis=2) > 30).mean(axis=0)  # share of each column
    assert (framed > 0.9).sum() >= 3  # the person's own column, and the two sides of its box


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["infer"], "Missing argument"),
        (["infer", "a.jpg", "--url", "localhost:8001"], "expected grpc://host:port/model"),
        (["infer", "a.jpg", "--url", UNUSED, "--protocol", "http"], "expected a http URL"),
        (["infer", "a.jpg", "b.jpg", "--visualize", "o.jpg"], "expected a folder for 2 images"),
        (["infer", "a.jpg", "--protocol", "smtp"], "smtp"),
        (["evaluate", "-a", "x.json"], "--images"),
    ],
)
def test_wrong_usage_is_exit_code_2(run, args, words):
    result = run(*args)

    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_a_server_that_is_not_there_is_one_line(monkeypatch, capsys, write_image):
    monkeypatch.setattr(
        sys, "argv", ["pose-client", "infer", str(write_image("a.jpg")), "--url", UNUSED]
    )

    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        f"error: {UNUSED}/bodypose: expected a pose server, got 'Connection refused';"
        " start one with `tools serve`\n"
    )


@pytest.mark.parametrize("command", ["infer", "evaluate", "describe"])
def test_every_command_shows_an_example(command):
    assert "Example: " in CliRunner().invoke(cli.app, [command, "--help"]).stdout


def test_help_is_fast_because_heavy_libraries_stay_out():
    code = (
        "import sys; from bodypose_client.cli import app;"
        "print([m for m in ('cv2', 'tritonclient', 'pycocotools', 'grpc') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert printed == "[]\n"
