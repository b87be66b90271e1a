import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.shipped import MODELS, SPECS, StarterError, copy_starters


def test_specs_and_keras_models_are_copied_with_their_records(tmp_path):
    copies = copy_starters(tmp_path)

    assert {path.name for path in copies} == {
        *(path.name for path in SPECS.glob("*.yaml")),
        *(path.name for path in MODELS.glob("*.keras*")),
    }
    model = tmp_path / "models/bodypose-s.keras"
    assert Artifact.open(model).sha256 == Artifact.open(MODELS / model.name).sha256


def test_copying_again_changes_nothing_and_names_the_same_files(tmp_path):
    first = copy_starters(tmp_path)
    times = [path.stat().st_mtime_ns for path in first]

    assert copy_starters(tmp_path) == first
    assert [path.stat().st_mtime_ns for path in first] == times


def test_an_edited_spec_is_kept_unless_told_otherwise(tmp_path):
    spec = tmp_path / "specs/bodypose-s.yaml"
    spec.parent.mkdir()
    spec.write_text("num_epoch: 1\n")

    with pytest.raises(StarterError, match=r"bodypose-s\.yaml: expected no file or the shipped"):
        copy_starters(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.*")] == [spec.name]

    copy_starters(tmp_path, overwrite=True)
    assert spec.read_bytes() == (SPECS / spec.name).read_bytes()


def test_the_command_names_what_it_wrote(tmp_path):
    result = CliRunner().invoke(app, ["starter-files", "-o", str(tmp_path)])

    assert result.exit_code == 0
    assert str(tmp_path / "specs/bodypose-s.yaml") in result.stdout.splitlines()
