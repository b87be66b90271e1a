"""What a served repository accepts as an image is a setting of `tools build-repo`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.repository.build import version_in_use
from bodypose_tools.repository.check import problems_of
from bodypose_tools.repository.versions import promote
from pose_runtime.spec import ImageLimits, PipelineSpec

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
GIVEN = "--max-image-bytes 1000 --max-image-pixels 2000 --max-decode-ms 30 --image-formats jpg,WEBP"


@pytest.fixture
def model(tmp_path, tiny_onnx) -> Path:
    return tiny_onnx(tmp_path / "tiny.onnx", SPEC)


def limits_in(repository: Path, version: int = 1) -> ImageLimits:
    pipeline = repository / "bodypose_preprocess" / str(version) / "pipeline.json"
    return PipelineSpec.load(pipeline).limits


def build(*arguments: str | Path):
    return CliRunner().invoke(app, ["build-repo", *map(str, arguments)])


def test_limits_that_are_not_given_are_the_defaults(tmp_path, model):
    assert build(model, "-o", tmp_path / "r").exit_code == 0

    assert limits_in(tmp_path / "r") == ImageLimits()


def test_limits_reach_the_model_that_checks_them(tmp_path, model):
    assert build(model, "-o", tmp_path / "r", *GIVEN.split()).exit_code == 0

    assert asdict(limits_in(tmp_path / "r")) == {
        "max_bytes": 1000,
        "max_pixels": 2000,
        "max_decode_ms": 30,
        "formats": ("JPEG", "WebP"),
    }


def test_a_repository_with_limits_is_sound_and_another_version_can_answer(tmp_path, model):
    build(model, "-o", tmp_path / "r", *GIVEN.split())
    assert problems_of(tmp_path / "r") == []

    build(model, "-o", tmp_path / "r", "--version", "2", "--max-decode-ms", "40")
    promote(tmp_path / "r", 2)

    assert problems_of(tmp_path / "r") == []
    assert version_in_use(tmp_path / "r") == 2


def test_another_version_has_the_limits_of_the_one_that_answers(tmp_path, model):
    build(model, "-o", tmp_path / "r", *GIVEN.split())

    added = build(model, "-o", tmp_path / "r", "--version", "2", "--max-decode-ms", "40")

    assert added.exit_code == 0, added.output
    assert limits_in(tmp_path / "r", 2) == ImageLimits(1000, 2000, 40, ("JPEG", "WebP"))


def test_an_unknown_format_is_refused_and_named(tmp_path, model):
    result = build(model, "-o", tmp_path / "r", "--image-formats", "jpeg,gif")

    assert result.exit_code == 1
    expected = "formats: expected some of JPEG, PNG, WebP, BMP, got JPEG, gif"
    assert expected in str(result.exception or result.output)
    assert not (tmp_path / "r").exists()


def test_descriptions_of_before_these_limits_have_the_defaults():
    text = SPEC.to_json()
    old = text[: text.index(',\n    "max_decode_ms"')] + text[text.index('\n  },\n  "grouping"') :]

    assert PipelineSpec.from_json(old).limits == ImageLimits()
