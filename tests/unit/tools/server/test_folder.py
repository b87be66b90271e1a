"""What the embedded server looks at, and how it is told to call itself not ready."""

from __future__ import annotations

import pytest

from bodypose_tools.repository.pbtxt import read_config
from bodypose_tools.server.folder import NEVER_READY, prepare, turn_unready
from bodypose_tools.server.readiness import answers, is_ready
from bodypose_tools.server.settings import Updates


@pytest.fixture
def repository(tmp_path):
    version = tmp_path / "repository" / "grouping" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text("JOINTS = 18\n")
    (version.parent / "config.pbtxt").write_text("")
    (version / "__pycache__").mkdir()
    (version / "__pycache__" / "old.pyc").write_bytes(b"of another build")
    (tmp_path / "repository" / "notes").mkdir()
    return tmp_path / "repository"


def test_copies_are_compiled_and_do_not_follow(repository, tmp_path):
    prepare(tmp_path / "served", repository, Updates.NONE)
    (repository / "grouping" / "1" / "model.py").write_text("JOINTS = 17\n")

    served = tmp_path / "served" / "grouping" / "1"
    assert (served / "model.py").read_text() == "JOINTS = 18\n"
    assert [path.name.split(".")[0] for path in (served / "__pycache__").iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["grouping"]


def test_links_follow(repository, tmp_path):
    prepare(tmp_path / "served", repository, Updates.POLL)
    (repository / "grouping" / "1" / "model.py").write_text("JOINTS = 17\n")

    served = tmp_path / "served" / "grouping" / "1" / "model.py"
    assert served.read_text() == "JOINTS = 17\n"


def test_links_are_compiled_where_they_lead(repository, tmp_path):
    prepare(tmp_path / "served", repository, Updates.POLL)

    caches = (repository / "grouping" / "1" / "__pycache__").iterdir()
    assert {path.name.split(".")[0] for path in caches} == {"model", "old"}


@pytest.mark.parametrize("updates", list(Updates))
def test_a_server_is_not_ready_by_one_more_model_and_the_repository_stays(
    repository, tmp_path, updates
):
    prepare(tmp_path / "served", repository, updates)

    turn_unready(tmp_path / "served")

    assert {path.name for path in (tmp_path / "served").iterdir()} == {"grouping", NEVER_READY}
    config = read_config(tmp_path / "served" / NEVER_READY / "config.pbtxt")
    assert config.backend == config.name == NEVER_READY
    assert {path.name for path in repository.iterdir()} == {"grouping", "notes"}


@pytest.mark.parametrize("url", ["127.0.0.1:9", "http://127.0.0.1:9", "https://127.0.0.1:9"])
def test_nobody_there_is_not_ready(url):
    assert not is_ready(url, "grouping", 2)
    assert not answers(url)
