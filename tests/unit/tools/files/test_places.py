"""Places that cannot be written are refused before work starts, in one line."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bodypose_client.errors import DiskError
from bodypose_client.files.output_file import check_can_write
from bodypose_tools.cli import app
from tests.command_walk import Command, commands, line_of


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


# Names of options and arguments that are read, whatever command has them.
READ = {
    "annotations", "baseline", "ca_file", "cal_image_dir", "candidate", "check_annotations",
    "coco", "compare", "dataset_spec", "file", "float_model", "gate_annotations",
    "gate_images", "grouping", "image_dir", "images", "int8", "int8_model", "layers_from",
    "load_inputs", "model", "movenet", "network", "notes", "one", "other", "photo",
    "pretrained", "repository", "root", "runs", "sample_images", "skeleton", "source",
    "sources", "spec", "tls_cert", "tls_client_ca", "tls_key", "token_file", "tuning",
}  # fmt: skip
FOLDERS = {
    "pose-client infer output", "pose-client infer visualize",
    "pose-loadtest result reports", "pose-loadtest run output", "tools build-repo output",
    "tools bulk output", "tools compare-quantisers environments",
    "tools dataset-convert output", "tools deploy-files output", "tools draw-people output",
    "tools sample-calibration-images output", "tools starter-files output",
}  # fmt: skip


def written() -> list[tuple[Command, Any]]:
    """Every command with each of its outputs: all paths that are not known to be read."""
    return [
        (command, param)
        for command in commands()
        for param in command.paths()
        if param.name not in READ
        and (str(command), param.name) != ("tools benchmark-report", "results")
    ]


@pytest.mark.parametrize(
    ("command", "param"), written(), ids=lambda each: getattr(each, "name", None) or str(each)
)
def test_every_output_is_refused_before_anything_is_read(places, tmp_path, command, param):
    is_folder = param.name == "results" or f"{command} {param.name}" in FOLDERS
    refused = [*places, *([] if is_folder else [tmp_path, "", ".", "/"])]
    for place in refused:
        given = [param.opts[0], str(place), *others(command, param, tmp_path)]
        line = line_of(command, given)
        assert "expected to be able to write a" in line or line.startswith("exit 2"), line
    assert (tmp_path / "file").read_text() == "mine"


def others(command: Command, param: Any, folder: Path, without: Any = None) -> list[str]:
    """Something for each parameter that a command requires; no file of it is there but a page."""
    (folder / "page.md").touch()
    given = []
    for each in command.params:
        if each.required and each is not param and each is not without:
            value = SPECIAL.get(each.name, "none")
            given += [value] if each.param_type_name == "argument" else [each.opts[0], value]
    return given


SPECIAL = {
    "scenario": "steady",
    "sizes": "64,64,3",
    "images": ".",
    "runs": ".",
    "cal_image_dir": ".",
}


def overwriting() -> list[tuple[Command, Any, Any]]:
    """Every command with each pair of a file that it reads and a file that it writes."""
    return [
        (command, read, param)
        for command, param in written()
        if param.name not in ("results", "environments")  # folders
        and param.name not in ("cal_data_file", "cal_cache_file")  # read if they are there
        and f"{command} {param.name}" not in FOLDERS
        for read in command.paths()
        if read.name in READ and read.name not in ("repository", "runs") and not is_folder(read)
    ]


def is_folder(param: Any) -> bool:
    return "images" in param.name or param.name in ("cal_image_dir", "image_dir", "root")


@pytest.mark.parametrize(
    ("command", "read", "param"),
    overwriting(),
    ids=lambda each: getattr(each, "name", None) or str(each),
)
def test_no_command_writes_over_what_it_reads(tmp_path, command, read, param):
    file = tmp_path / "mine.onnx"
    file.write_text("mine")
    (tmp_path / "link.onnx").symlink_to(file)
    for place in (file, tmp_path / "link.onnx"):
        inputs = [str(file)] * max(1, read.nargs)
        given = inputs if read.param_type_name == "argument" else [read.opts[0], *inputs]
        rest = others(command, param, tmp_path, without=read)
        line = line_of(command, [*given, param.opts[0], str(place), *rest])
        assert "expected a file of its own to write" in " ".join(re.sub("│", " ", line).split())
    assert file.read_text() == "mine"


def test_devices_may_be_named_twice(tmp_path):
    (tmp_path / "a.onnx").touch()
    outputs = ["--json", "/dev/null", "--results", "/dev/null"]
    given = ["evaluate", str(tmp_path / "a.onnx"), "-a", "none", "-i", str(tmp_path), *outputs]
    result = CliRunner().invoke(app, given)
    assert "twice" not in str(result.exception), result.exception
