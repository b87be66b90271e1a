"""The built repository: complete, reproducible, never half replaced, and honest about changes."""

from __future__ import annotations

import json
import os
import py_compile
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

import pose_runtime
from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import (
    ForeignFolderError,
    MissingArtifactError,
    record_path,
    sha256_of,
)
from bodypose_tools.files.shipped import MODEL_SOURCES
from bodypose_tools.graphs.contract import OnnxError, spec_in_onnx
from bodypose_tools.repository.build import (
    CONFIG,
    ONNX,
    PIPELINE,
    build_repository,
    changes_since_build,
)
from bodypose_tools.repository.check import other_steps, problems_of
from bodypose_tools.repository.pbtxt import ENSEMBLE, GROUPING, NETWORK, PREPROCESS, STEPS
from bodypose_tools.repository.releases import TritonVersion
from pose_runtime.errors import PoseError, SpecError
from pose_runtime.integrity import MANIFEST, check_files
from pose_runtime.spec import PipelineSpec

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_onnx: Callable[..., Path]) -> Path:
    return tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", SPEC)


@pytest.fixture
def repository(tmp_path, model) -> Path:
    build_repository(model, tmp_path / "repository")
    return tmp_path / "repository"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def again(repository: Path) -> None:
    """Make the record agree with files that a test has changed, as a build would have."""
    record = json.loads(record_path(repository).read_text())
    record["files"] = {name: sha256_of(repository / name) for name in contents(repository)}
    record_path(repository).write_text(json.dumps(record))


# build


def test_every_python_model_carries_the_whole_runtime_and_the_pipeline(repository, model):
    sources = Path(pose_runtime.__file__).parent
    expected = {path.name: path.read_bytes() for path in sources.glob("*.py")}
    for name in STEPS:
        version = repository / name / "1"
        assert contents(version / "pose_runtime") == expected
        assert PipelineSpec.load(version / PIPELINE) == SPEC.with_model(sha256_of(model))


def test_the_ensemble_keeps_its_empty_version_folder(repository):
    assert (repository / ENSEMBLE / "1").is_dir()


def test_two_builds_are_equal_to_the_byte(tmp_path, model):
    for place in ("a", "b"):
        build_repository(model, tmp_path / place / "repository")

    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_build_replaces_an_older_one(repository, model):
    (repository / PREPROCESS / "stray.txt").write_text("from yesterday")

    build_repository(model, repository)

    assert not (repository / PREPROCESS / "stray.txt").exists()
    assert changes_since_build(repository) == []


def test_a_failed_build_leaves_the_old_repository_and_nothing_else(repository, model, monkeypatch):
    before = contents(repository.parent)

    def full_disk(*paths):
        raise OSError("No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full_disk)
    with pytest.raises(OSError, match="No space left"):
        build_repository(model, repository)

    assert contents(repository.parent) == before


def test_a_folder_of_something_else_is_not_replaced(tmp_path, model):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("friend")

    with pytest.raises(ForeignFolderError, match=r"letters: expected a new folder.*--output"):
        build_repository(model, tmp_path / "letters")

    assert (tmp_path / "letters" / "dear.txt").read_text() == "friend"


def test_the_sources_in_git_hold_no_built_file():
    names = {path.name for path in MODEL_SOURCES.rglob("*") if path.is_file()}
    assert {name for name in names if not name.endswith(".pyc")} == {
        "model.py",
        CONFIG,
        ".gitkeep",
    }


# the ONNX file


def test_a_missing_model_is_said_in_one_line(tmp_path):
    with pytest.raises(MissingArtifactError, match=r"nothing\.onnx: expected a file"):
        build_repository(tmp_path / "nothing.onnx", tmp_path / "repository")


def test_a_damaged_model_is_said_in_one_line(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")

    with pytest.raises(OnnxError, match=r"bad\.onnx: expected an ONNX model.*`tools export`"):
        build_repository(tmp_path / "bad.onnx", tmp_path / "repository")

    assert not (tmp_path / "repository").exists()


def changed_onnx(model: Path, path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    graph = onnx.load(model)
    change(graph)
    onnx.save(graph, path)
    return path


def test_a_keras_file_is_answered_with_the_export_that_it_needs(tmp_path):
    (tmp_path / "best.keras").write_bytes(b"PK")

    with pytest.raises(OnnxError, match=r"got a Keras file; run `tools export -m .*best\.keras -o"):
        build_repository(tmp_path / "best.keras", tmp_path / "out")


def test_a_model_without_a_pipeline_is_refused(tmp_path, model):
    path = changed_onnx(model, tmp_path / "m.onnx", lambda m: m.ClearField("metadata_props"))

    with pytest.raises(OnnxError, match=r"expected the pipeline in the metadata.*`tools export`"):
        spec_in_onnx(path)


def test_a_model_of_another_input_size_is_refused(tmp_path, model):
    def taller(onnx_model):
        onnx_model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64

    path = changed_onnx(model, tmp_path / "m.onnx", taller)

    with pytest.raises(
        OnnxError, match=r"input `pixels` UINT8 \(batch, 32, 48, 3\), got UINT8 \(batch, 64, 48"
    ):
        spec_in_onnx(path)


def test_a_model_with_a_fixed_batch_is_refused(tmp_path, model):
    def single(onnx_model):
        onnx_model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    path = changed_onnx(model, tmp_path / "m.onnx", single)

    with pytest.raises(OnnxError, match=r"\(batch, 32, 48, 3\), got UINT8 \(1, 32, 48, 3\)"):
        spec_in_onnx(path)


# changes after the build


def test_a_flipped_byte_is_noticed(repository):
    path = repository / NETWORK / "1" / ONNX
    path.write_bytes(path.read_bytes() + b"\0")

    assert changes_since_build(repository) == [
        f"{path} changed after the build; run `tools build-repo`"
    ]


def test_missing_and_additional_files_are_noticed(repository):
    (repository / GROUPING / "1" / "model.py").unlink()
    (repository / GROUPING / "1" / "spy.py").write_text("")

    first, second = changes_since_build(repository)

    assert first.endswith("model.py is missing; run `tools build-repo`")
    assert second.endswith("spy.py does not belong there; run `tools build-repo`")


def test_what_python_leaves_behind_is_no_change(repository):
    cache = repository / GROUPING / "1" / "__pycache__"
    for source in (repository / GROUPING / "1").rglob("*.py"):
        py_compile.compile(str(source), doraise=True)

    assert len(list(cache.iterdir())) == 1
    assert changes_since_build(repository) == []


def a_link_to_a_folder(repository: Path, elsewhere: Path) -> str:
    (elsewhere / "spy").mkdir()
    (elsewhere / "spy" / "config.pbtxt").write_text('name: "spy"')
    (repository / "spy").symlink_to(elsewhere / "spy")
    return "spy is a link and does not belong there"


def a_link_in_the_place_of_a_file(repository: Path, elsewhere: Path) -> str:
    model = repository / GROUPING / "1" / "model.py"
    model.rename(elsewhere / "model.py")
    model.symlink_to(elsewhere / "model.py")
    return f"{GROUPING}/1/model.py is a link and does not belong there"


def an_empty_folder(repository: Path, elsewhere: Path) -> str:
    (repository / "spy").mkdir()
    return "spy is an empty folder and does not belong there"


def a_version_without_files(repository: Path, elsewhere: Path) -> str:
    (repository / GROUPING / "7").mkdir()
    return f"{GROUPING}/7 is an empty folder and does not belong there"


def a_model_called_pycache(repository: Path, elsewhere: Path) -> str:
    (repository / "__pycache__" / "1").mkdir(parents=True)
    (repository / "__pycache__" / "1" / "model.py").write_text("")
    return "__pycache__/1/model.py does not belong there"


def a_hidden_model(repository: Path, elsewhere: Path) -> str:
    (repository / ".spy").mkdir()
    (repository / ".spy" / "config.pbtxt").write_text('name: ".spy"')
    return ".spy/config.pbtxt does not belong there"


def a_module_beside_the_versions(repository: Path, elsewhere: Path) -> str:
    (repository / GROUPING / "torch.py").write_text("")
    return f"{GROUPING}/torch.py does not belong there"


def a_cache_that_python_does_not_check(repository: Path, elsewhere: Path) -> str:
    source = repository / GROUPING / "1" / "pose_runtime" / "spec.py"
    cache = py_compile.compile(
        str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    return f"{Path(cache).relative_to(repository)} does not belong there"


def a_cache_of_other_code(repository: Path, elsewhere: Path) -> str:
    source = repository / GROUPING / "1" / "pose_runtime" / "spec.py"
    content, times = source.read_bytes(), (source.stat().st_atime, source.stat().st_mtime)
    source.write_bytes(b"import os".ljust(len(content)))
    os.utime(source, times)
    cache = py_compile.compile(str(source))
    source.write_bytes(content)
    os.utime(source, times)  # as its header says
    return f"{Path(cache).relative_to(repository)} does not belong there"


def compiled_code_without_its_source(repository: Path, elsewhere: Path) -> str:
    (elsewhere / "spy.py").write_text("")
    py_compile.compile(
        str(elsewhere / "spy.py"), cfile=str(repository / GROUPING / "1" / "spy.pyc")
    )
    return f"{GROUPING}/1/spy.pyc does not belong there"


def a_pipe(repository: Path, elsewhere: Path) -> str:
    os.mkfifo(repository / GROUPING / "1" / "pipe")
    return f"{GROUPING}/1/pipe is no file and does not belong there"


def a_list_inside_a_package(repository: Path, elsewhere: Path) -> str:
    (repository / GROUPING / "1" / "pose_runtime" / MANIFEST).write_text("{}")
    return f"{GROUPING}/1/pose_runtime/{MANIFEST} does not belong there"


PLANTED = (
    a_link_to_a_folder,
    a_link_in_the_place_of_a_file,
    an_empty_folder,
    a_version_without_files,
    a_model_called_pycache,
    a_hidden_model,
    a_module_beside_the_versions,
    a_cache_that_python_does_not_check,
    a_cache_of_other_code,
    compiled_code_without_its_source,
    a_pipe,
    a_list_inside_a_package,
)


@pytest.mark.parametrize("plant", PLANTED)
def test_start_up_check_and_model_find_what_triton_or_python_would_load(
    repository, tmp_path, plant
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    expected = plant(repository, elsewhere)

    (change,) = changes_since_build(repository)
    assert change == f"{repository}/{expected}; run `tools build-repo`"
    assert change in problems_of(repository)
    if expected.startswith(f"{GROUPING}/") and "/7" not in expected:
        with pytest.raises(SpecError) as caught:
            check_files(repository / GROUPING / "1")
        assert expected in str(caught.value)


# check-repo


def test_a_fresh_build_has_no_problems(repository):
    assert problems_of(repository) == []


def edited(repository: Path, name: str, old: str, new: str) -> list[str]:
    """The problems after one edit that the record knows of."""
    path = repository / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    again(repository)
    return problems_of(repository)


def test_a_config_that_triton_would_not_read_is_named_with_its_line(repository):
    problems = edited(repository, f"{GROUPING}/{CONFIG}", "max_batch_size", "max_batch")

    assert f"{GROUPING}/{CONFIG}: expected a config that Triton reads" in problems[0]
    assert 'no field named "max_batch"' in problems[0]


def test_a_tensor_of_another_shape_is_found_at_both_ends(repository):
    problems = edited(repository, f"{GROUPING}/{CONFIG}", "dims: 5", "dims: 6")

    where = f"{ENSEMBLE}, step {GROUPING}, inputs"
    assert (
        f"{where}: expected `geometry` FP32 [6], got FP32 [5]; run `tools build-repo`" in problems
    )
    assert any(problem.startswith(f"{GROUPING}, inputs: expected") for problem in problems)


def test_a_cut_wire_of_the_ensemble_is_found(repository):
    problems = edited(repository, f"{ENSEMBLE}/{CONFIG}", 'value: "pixels"', 'value: "pixel"')

    assert any(
        problem.startswith(f"{ENSEMBLE}, step {NETWORK}, inputs: expected `pixels` UINT8")
        and "got nothing" in problem
        for problem in problems
    )


def test_a_step_without_a_model_is_found(repository):
    shutil.rmtree(repository / GROUPING)
    again(repository)

    problems = problems_of(repository)

    assert any(f"step {GROUPING}: expected a model of that name" in line for line in problems)


@pytest.mark.parametrize(
    "name",
    [
        f"{PREPROCESS}/1/pose_runtime/images.py",
        f"{GROUPING}/1/{PIPELINE}",
        f"{NETWORK}/1/model.py",
        f"{PREPROCESS}/warmup/image",
    ],
)
def test_a_missing_file_is_found(repository, name):
    (repository / name).unlink()
    again(repository)

    assert any(f"{name}: expected a file" in problem for problem in problems_of(repository))


def test_a_manifest_that_is_missing_is_found(repository):
    (repository / PREPROCESS / "1" / MANIFEST).unlink()
    again(repository)

    assert any(f"{MANIFEST}: expected a file" in problem for problem in problems_of(repository))


def test_a_model_of_another_name_than_its_folder_is_found(repository):
    problems = edited(repository, f"{GROUPING}/{CONFIG}", f'name: "{GROUPING}"', 'name: "other"')

    where = repository / GROUPING / CONFIG
    assert (
        f"{where}: expected the name of its folder, got `other`; run `tools build-repo`" in problems
    )


def test_a_model_without_a_version_is_found(repository):
    (repository / GROUPING / "1").rename(repository / GROUPING / "first")
    again(repository)

    where = repository / GROUPING
    assert (
        f"{where}: expected a version folder such as `1`, got none; run `tools build-repo`"
        in problems_of(repository)
    )


def test_a_step_that_takes_smaller_batches_than_the_ensemble_is_found(repository):
    config = (repository / NETWORK / CONFIG).read_text()
    (batch,) = re.findall(r"^max_batch_size: (\d+)", config, re.M)
    problems = edited(
        repository, f"{NETWORK}/{CONFIG}", f"max_batch_size: {batch}", "max_batch_size: 1"
    )

    assert (
        f"{ENSEMBLE}, step {NETWORK}: expected max_batch_size of at least {batch}, got 1;"
        " run `tools build-repo`" in problems
    )


def test_an_answer_of_another_type_than_its_step_makes_is_found(repository):
    old = 'name: "keypoints"\n  data_type: TYPE_FP32'
    problems = edited(repository, f"{ENSEMBLE}/{CONFIG}", old, old.replace("FP32", "FP16"))

    shape = "[2, 18, 3]"
    where = f"{ENSEMBLE}, outputs: expected `keypoints`"
    assert f"{where} FP16 {shape}, got FP32 {shape}; run `tools build-repo`" in problems


def test_an_output_that_no_step_makes_is_found_at_the_step(repository):
    problems = edited(repository, f"{ENSEMBLE}/{CONFIG}", 'key: "keypoints"', 'key: "key_points"')

    where = f"{ENSEMBLE}, step {GROUPING}, outputs: expected `key_points` nothing, got nothing"
    assert any(problem.startswith(where) for problem in problems)


def test_two_pipelines_in_one_repository_are_found(repository):
    problems = edited(repository, f"{GROUPING}/1/{PIPELINE}", '"min_joints": 2', '"min_joints": 3')

    assert any("expected the same pipeline as" in problem for problem in problems)


def test_another_network_than_the_described_one_is_found(repository, tiny_onnx):
    other = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2, model_sha256="x")
    tiny_onnx(repository / NETWORK / "1" / ONNX, other)
    again(repository)

    assert any(f"{ONNX}: expected the model that" in problem for problem in problems_of(repository))


def test_a_field_that_the_release_does_not_know_is_found(repository):
    problems = edited(
        repository,
        f"{ENSEMBLE}/{CONFIG}",
        "ensemble_scheduling {",
        "ensemble_scheduling {\n  max_inflight_requests: 7",
    )

    assert problems == [
        f"{ENSEMBLE}: expected no max_inflight_requests for Triton 24.10, got 7; run"
        " `tools build-repo --triton-version 24.10`"
    ]
    assert problems_of(repository, TritonVersion(26, 5)) == []


def test_a_model_that_cannot_be_read_is_missing_for_the_pipeline(repository):
    problems = edited(repository, f"{NETWORK}/{CONFIG}", "max_batch_size", "max_batch")

    assert f"{NETWORK}: expected this model, got none that can be read; run `tools build-repo`" in (
        problems
    )
    assert len([problem for problem in problems if problem.startswith(f"{NETWORK}:")]) == 1


def test_the_steps_of_another_pipeline_do_not_fit_beside_a_repositorys(repository):
    assert other_steps(repository, SPEC) == []
    assert other_steps(repository, replace(SPEC, max_people=3)) == [
        f"{where}, outputs: expected `{name}` FP32 {new}, got FP32 {old}; run `tools build-repo`"
        for where in (GROUPING, ENSEMBLE)
        for name, new, old in (
            ("keypoints", "[3, 18, 3]", "[2, 18, 3]"),
            ("scores", "[3]", "[2]"),
        )
    ]


# commands


def test_build_and_check_from_the_command_line(tmp_path, model):
    repository = tmp_path / "repository"

    built = CliRunner().invoke(app, ["build-repo", str(model), "-o", str(repository)])
    checked = CliRunner().invoke(app, ["check-repo", str(repository)])

    assert built.exit_code == 0
    assert str(repository) in built.output
    assert (repository / NETWORK / "1" / ONNX).read_bytes() == model.read_bytes()
    assert (checked.exit_code, checked.output) == (0, f"{repository}  OK\n")


def test_check_repo_prints_a_line_for_each_problem_and_exits_1(repository):
    (repository / GROUPING / "1" / "model.py").unlink()
    (repository / GROUPING / "1" / "spy.py").write_text("")

    result = CliRunner().invoke(app, ["check-repo", str(repository)])

    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 3  # the missing file breaks two rules


def test_serve_does_not_start_a_changed_repository(repository):
    (repository / GROUPING / "1" / "model.py").write_text("print('mine now')")

    result = CliRunner().invoke(app, ["serve", str(repository)])

    assert result.exit_code == 1
    assert isinstance(result.exception, PoseError)
    assert "model.py changed after the build; run `tools build-repo`" in str(result.exception)


def test_serve_without_a_repository_says_what_to_run(tmp_path):
    result = CliRunner().invoke(app, ["serve", str(tmp_path / "none")])

    assert "run `tools build-repo`" in str(result.exception)


def test_an_unknown_target_is_a_usage_error(model):
    result = CliRunner().invoke(app, ["build-repo", str(model), "--target", "tpu"])

    assert result.exit_code == 2
    assert "embedded" in result.output


@pytest.mark.parametrize("command", ["build-repo", "check-repo", "serve"])
def test_help_shows_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])

    assert result.exit_code == 0
    assert f"Example: tools {command}" in result.output
