"""Versions in a folder that nobody serves: added, promoted, rolled back, and what is refused.

`tests/integration/test_updates.py` does the same under load.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import record_path, sha256_of
from bodypose_tools.files.json_records import RecordError
from bodypose_tools.repository import lock as repository_lock
from bodypose_tools.repository import versions
from bodypose_tools.repository.build import (
    CONFIG,
    RepositoryError,
    build_repository,
    changes_since_build,
    version_in_use,
)
from bodypose_tools.repository.check import problems_of
from bodypose_tools.repository.lock import RepositoryInUse, is_served, serving, writing
from bodypose_tools.repository.pbtxt import ENSEMBLE, GROUPING, NETWORK, STEPS, read_config
from pose_runtime.spec import GroupingSettings, PipelineSpec

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_onnx: Callable[..., Path]) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("models")
    later = replace(SPEC, grouping=GroupingSettings(min_joints=3))
    return {
        1: tiny_onnx(folder / "one.onnx", SPEC),
        2: tiny_onnx(folder / "two.onnx", later, "ReduceMax"),
    }


@pytest.fixture
def repository(tmp_path, models) -> Path:
    build_repository(models[1], tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def with_two(repository, models) -> Path:
    versions.add_version(models[2], repository, 2)
    return repository


def configs(repository: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in repository.glob(f"*/{CONFIG}")}


def versions_said(repository: Path) -> dict[str, list[int]]:
    return {
        name: list(read_config(repository / name / CONFIG).version_policy.specific.versions)
        for name in (*STEPS, ENSEMBLE)
    }


def test_a_folder_named_like_the_new_version_hides_no_damage(tmp_path, models):
    repository = tmp_path / "2" / "repository"
    build_repository(models[1], repository)
    (repository / NETWORK / "1" / "pipeline.json").write_text("{}")

    with pytest.raises(RepositoryError, match="changed after the build"):
        versions.add_version(models[2], repository, 2)


def test_an_added_version_is_complete_and_does_not_answer_yet(with_two, models):
    assert problems_of(with_two) == []
    assert version_in_use(with_two) == 1
    assert set(map(tuple, versions_said(with_two).values())) == {(1,)}
    assert (with_two / NETWORK / "2" / "model.onnx").read_bytes() == models[2].read_bytes()
    for name in STEPS:
        assert {path.name for path in (with_two / name / "2").iterdir()} >= {
            path.name for path in (with_two / name / "1").iterdir()
        }


def test_a_promoted_version_is_what_the_ensemble_tells_and_asks(with_two, models):
    versions.promote(with_two, 2)

    ensemble = read_config(with_two / ENSEMBLE / CONFIG)
    assert ensemble.parameters["model_sha256"].string_value == sha256_of(models[2])
    told = PipelineSpec.from_json(ensemble.parameters["pipeline"].string_value)
    assert told.grouping.min_joints == 3
    assert {step.model_version for step in ensemble.ensemble_scheduling.step} == {2}
    assert set(map(tuple, versions_said(with_two).values())) == {(2,)}
    assert (problems_of(with_two), version_in_use(with_two)) == ([], 2)


def test_rollback_undoes_promote_to_the_byte(with_two):
    before = configs(with_two)
    versions.promote(with_two, 2)
    assert configs(with_two) != before

    assert versions.rollback(with_two) == 1

    assert configs(with_two) == before
    with pytest.raises(RepositoryError, match="expected a version that answered before 1"):
        versions.rollback(with_two)


def test_the_server_is_asked_for_the_steps_before_the_ensemble_moves(with_two):
    asked = []

    def ready(model: str, version: int) -> bool:
        asked.append((model, version, versions_said(with_two)[ENSEMBLE]))
        return True

    versions.promote(with_two, 2, ready)

    assert asked == [*((name, 2, [1]) for name in STEPS), (ENSEMBLE, 2, [2])]


def test_a_server_that_does_not_follow_leaves_everything_as_it_was(with_two):
    before = configs(with_two)

    with pytest.raises(RepositoryError, match=r"ready within 0 s.*version 1 keeps answering"):
        versions.promote(with_two, 2, lambda model, version: False, timeout_s=0)

    assert configs(with_two) == before
    assert (changes_since_build(with_two), version_in_use(with_two)) == ([], 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_promotion_leaves_everything_as_it_was(with_two, error):
    before = configs(with_two)

    def ready(model: str, version: int) -> bool:
        raise error

    with pytest.raises(error):
        versions.promote(with_two, 2, ready)

    assert configs(with_two) == before


def test_promote_mends_what_a_killed_one_left(with_two):
    versions._load(with_two, 1, 2)  # and then the power was cut
    assert len(changes_since_build(with_two)) == 3

    versions.promote(with_two, 2)

    assert problems_of(with_two) == []


def test_add_mends_what_a_killed_one_left(repository, models):
    (repository / NETWORK / "2").mkdir()
    (repository / NETWORK / "2" / "model.onnx").write_bytes(b"half")

    versions.add_version(models[2], repository, 2)

    assert problems_of(repository) == []


def test_a_flipped_byte_of_the_new_version_is_refused_by_name(with_two):
    path = with_two / GROUPING / "2" / "pose_runtime" / "grouping.py"
    path.write_bytes(path.read_bytes() + b"\n")

    with pytest.raises(RepositoryError, match=r"2/pose_runtime/grouping\.py changed.*1 keeps"):
        versions.promote(with_two, 2)

    assert version_in_use(with_two) == 1


def test_unknown_and_present_versions_are_refused(with_two, models):
    with pytest.raises(RepositoryError, match=r"one of the versions 1, 2, got 7; run `tools build"):
        versions.promote(with_two, 7)
    with pytest.raises(
        RepositoryError, match="expected another version than 1, which answers already"
    ):
        versions.promote(with_two, 1)
    with pytest.raises(RepositoryError, match="expected a new version, got 2; it has"):
        versions.add_version(models[2], with_two, 2)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"network_hw": (32, 64)}, r"expected network_hw \(32, 48\)"),
        ({"max_people": 3}, r"expected max_people 2"),
    ],
)
def test_a_version_that_answers_in_other_shapes_is_refused(
    repository, tmp_path, tiny_onnx, change, complaint
):
    other = tiny_onnx(tmp_path / "other.onnx", replace(SPEC, **change))

    with pytest.raises(RepositoryError, match=complaint):
        versions.add_version(other, repository, 2)

    assert problems_of(repository) == []


def test_a_changed_repository_takes_no_version(repository, models):
    (repository / NETWORK / "1" / "model.py").write_text("")

    with pytest.raises(RepositoryError, match=r"1/model\.py changed after the build"):
        versions.add_version(models[2], repository, 2)


@pytest.mark.parametrize("served", [[], ["1"], "1", None])
def test_a_damaged_record_is_said_in_one_line(repository, served):
    record = json.loads(record_path(repository).read_text())
    record_path(repository).write_text(json.dumps({**record, "served": served}))

    with pytest.raises(RecordError, match=r"repository\.json: expected .*served"):
        versions.promote(repository, 2)
    assert len(changes_since_build(repository)) == 1


# locks


def test_there_is_one_writer_at_a_time(repository, models):
    held = (
        "import sys; from pathlib import Path; from bodypose_tools.repository.lock import writing\n"
    )
    held += "with writing(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held, repository], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        for write in (build_repository, lambda *given: versions.add_version(*given, 2)):
            with pytest.raises(RepositoryInUse, match="expected to be its only writer"):
                write(models[1], repository)
        other.kill()

    build_repository(models[1], repository)  # a killed one holds nothing


def test_a_served_folder_takes_versions_and_no_rebuild(repository, models):
    with serving(repository), serving(repository):
        assert is_served(repository)
        with pytest.raises(RepositoryInUse, match="got one that is served"):
            build_repository(models[1], repository)
        versions.add_version(models[2], repository, 2)

    assert not is_served(repository)


def test_a_lock_is_left_when_its_block_fails(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path / "r"):
        raise KeyError

    with writing(tmp_path / "r"):
        pass
    assert repository_lock.is_served(tmp_path / "r") is False


# commands


def test_a_version_from_the_command_line(repository, models):

    for arguments, said in (
        (["build-repo", str(models[2]), "--version", "2", "-o", str(repository)], "promote 2"),
        (["promote", "2", str(repository)], "version 2 answers"),
        (["rollback", str(repository)], "version 1 answers"),
    ):
        result = CliRunner().invoke(app, arguments)
        assert (result.exit_code, said in result.output) == (0, True), result.output


def test_promote_needs_the_server_that_serves(repository):

    result = CliRunner().invoke(
        app, ["promote", "2", str(repository), "--url", "http://127.0.0.1:9"]
    )

    assert result.exit_code == 1
    assert "http://127.0.0.1:9: expected the server of" in str(result.exception)
