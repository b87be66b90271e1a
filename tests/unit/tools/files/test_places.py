"""Places that cannot be written are refused before work starts, in one line."""

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.atomic_files import DiskError, check_can_write


@pytest.fixture
def places(tmp_path):
    """Where no file and no folder can be written."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    return [tmp_path / "file" / "below", tmp_path / "file" / "far" / "below", tmp_path / "link"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_cannot_be_written_is_refused(tmp_path, places, is_folder):
    other = tmp_path / "file" if is_folder else tmp_path
    for place in (*places, other):
        with pytest.raises(DiskError, match=f"^{place}: expected to be able to write"):
            check_can_write(place, is_folder=is_folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_what_can_be_written_passes_and_is_not_made(tmp_path):
    check_can_write(tmp_path / "new" / "deep" / "file")
    check_can_write(tmp_path / "new", is_folder=True)
    check_can_write(tmp_path, is_folder=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(DiskError, match=f"got no permission in {tmp_path}"):
        check_can_write(tmp_path / "file")


@pytest.mark.parametrize("place", [".", "/", "", "..", "file/below", "link"])
def test_no_repository_is_built_there(tmp_path, places, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["build-repo", "-o", place])
    assert isinstance(result.exception, DiskError)
    assert "\n" not in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "-e", "spec.yaml", "-r"],
        ["evaluate", "m.onnx", "-a", "a.json", "-i", ".", "--json"],
        ["tune-grouping", "m.onnx", "-a", "a.json", "-i", ".", "-o"],
        ["inference", "m.onnx", "1.jpg", "-o"],
        ["sample-calibration-images", "-a", "a.json", "-i", ".", "-o"],
        ["starter-files", "-o"],
        ["soak", "-o"],
    ],
)
def test_commands_refuse_the_place_before_they_read_anything(places, arguments):
    for place in places:
        result = CliRunner().invoke(app, [*arguments, str(place)])
        assert isinstance(result.exception, DiskError)
