import json
from pathlib import Path

from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.shipped import SHIPPED_MODEL


def infer(*arguments: str | Path):
    return CliRunner().invoke(
        app, ["inference", str(SHIPPED_MODEL), *(str(argument) for argument in arguments)]
    )


def test_a_folder_becomes_records_and_pictures(drawn_coco, tmp_path):
    result = infer(drawn_coco, "-o", tmp_path, "--visualize")
    assert result.exit_code == 0, result.output
    records = json.loads((tmp_path / "detections.json").read_text())
    assert [record["image"]["id"] for record in records] == ["1.png", "2.png"]
    assert {record["schema"] for record in records} == {"bodypose/1"}
    pictures = sorted(path.name for path in (tmp_path / "images_annotated").iterdir())
    assert pictures == ["1.png", "2.png"]


def test_a_bad_image_is_one_line_and_the_others_go_on(drawn_coco, tmp_path):
    (tmp_path / "note.jpg").write_text("no photo")
    result = infer(tmp_path / "note.jpg", drawn_coco / "1.png", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "note.jpg: image: expected JPEG" in result.output
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 1
