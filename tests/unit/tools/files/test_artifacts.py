import json

import pytest

from bodypose_tools.files.artifacts import (
    Artifact,
    MissingArtifactError,
    StaleArtifactError,
    record_path,
)


def test_a_record_names_the_parents(tmp_path):
    for name in ("parent", "child"):
        (tmp_path / name).write_text(name)
    parent = Artifact.record(tmp_path / "parent", "train")
    Artifact.record(tmp_path / "child", "export", parent, settings={"opset": 17})
    raw = json.loads(record_path(tmp_path / "child").read_text())
    assert raw["parents"] == [{"file": "parent", "sha256": parent.sha256}]
    opened = Artifact.open(tmp_path / "child")
    assert (opened.parents, opened.settings) == ((parent.sha256,), {"opset": 17})


def test_a_file_that_changed_after_its_record_is_refused(tmp_path):
    (tmp_path / "file").write_text("one")
    Artifact.record(tmp_path / "file", "export")
    (tmp_path / "file").write_text("two")
    with pytest.raises(StaleArtifactError, match="run `tools export` again"):
        Artifact.open(tmp_path / "file")


def test_a_file_without_record_is_the_users_own(tmp_path):
    (tmp_path / "file").write_text("one")
    assert Artifact.open(tmp_path / "file").stage == "given"


def test_nothing_there_is_said_to_be_nothing(tmp_path):
    with pytest.raises(MissingArtifactError, match="got nothing there"):
        Artifact.open(tmp_path / "file")
