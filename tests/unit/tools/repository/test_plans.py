"""Repositories for stock containers: the network in Triton's own backends, the plan that fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import Artifact, record_path, sha256_of
from bodypose_tools.repository.build import CONFIG, PIPELINE, RepositoryError, build_repository
from bodypose_tools.repository.check import problems_of
from bodypose_tools.repository.pbtxt import ENSEMBLE, GROUPING, NETWORK, PREPROCESS, read_config
from bodypose_tools.repository.plans import open_plan, serving_of_plan
from bodypose_tools.repository.releases import TritonVersion
from bodypose_tools.repository.settings import NetworkBackend
from bodypose_tools.repository.targets import cpu
from pose_runtime.errors import EngineError, PoseError
from pose_runtime.spec import PipelineSpec

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
RELEASE = TritonVersion(26, 7)


def plan_at(path: Path, **changes) -> Path:
    """A file with the record that `tools build-engine` writes; its bytes are read by nobody."""
    path.write_bytes(b"an engine")
    described = {
        "runtime": "tensorrt",
        "runtime_version": "11.1.0.106",
        "version_compatible": False,
        "max_batch_size": 4,
        "pipeline": json.loads(SPEC.with_model("of the graph").to_json()),
    }
    Artifact.record(path, "build-engine", settings={**described, **changes})
    return path


@pytest.fixture
def repository(tmp_path) -> Path:
    plan = plan_at(tmp_path / "my.plan")
    build_repository(plan, tmp_path / "repository", serving_of_plan(plan, RELEASE))
    return tmp_path / "repository"


def config(repository: Path, model: str):
    return read_config(repository / model / CONFIG)


# --target gpu


def test_the_plan_gives_the_config_of_the_tensorrt_backend(repository):
    network = config(repository, NETWORK)

    assert network.backend == "tensorrt"
    assert network.default_model_filename == "model.plan"
    assert network.max_batch_size == 4
    assert [tuple(tensor.dims) for tensor in network.input] == [SPEC.pixels.dims]
    (group,) = network.instance_group
    assert group.kind == triton.ModelInstanceGroup.KIND_GPU
    assert list(group.profile) == ["0"]
    assert {warmup.batch_size for warmup in network.model_warmup} == {1, 4}


def test_every_step_takes_batches_that_the_plan_takes(repository):
    sizes = {config(repository, name).max_batch_size for name in (ENSEMBLE, PREPROCESS, GROUPING)}
    assert sizes == {4}


def test_the_plan_lies_in_the_repository_with_its_record(repository):
    place = repository / NETWORK / "1"
    assert {path.name for path in place.iterdir()} == {"model.plan", "model.plan.json", PIPELINE}
    assert PipelineSpec.load(place / PIPELINE).model_sha256 == sha256_of(place / "model.plan")
    assert problems_of(repository) == []


def test_a_repository_for_another_tensorrt_is_named_before_the_server_would(repository):
    found = problems_of(repository, TritonVersion(26, 6))
    assert len(found) == 1
    assert "expected an engine for Triton 26.06, which has TensorRT 11.0, got one built" in found[0]
    assert "11.1.0.106; run `tools build-engine` in the TensorRT image 26.06" in found[0]


def test_a_release_whose_tensorrt_nobody_published_is_not_guessed_at(repository):
    assert problems_of(repository, TritonVersion(26, 8)) == []


def test_an_older_server_is_told_of_the_field_it_does_not_know(repository):
    assert config(repository, ENSEMBLE).ensemble_scheduling.max_inflight_requests == 256
    found = problems_of(repository, TritonVersion(25, 12))
    assert any("expected no max_inflight_requests for Triton 25.12, got 256" in it for it in found)


def test_an_older_release_is_built_without_the_field(tmp_path):
    plan = plan_at(tmp_path / "my.plan", runtime_version="10.14.1.48")
    build_repository(plan, tmp_path / "r", serving_of_plan(plan, TritonVersion(25, 12)))

    assert "max_inflight_requests" not in (tmp_path / "r" / ENSEMBLE / CONFIG).read_text()
    assert problems_of(tmp_path / "r") == []


def test_a_plan_of_another_tensorrt_is_not_built_into_a_repository(tmp_path):
    plan = plan_at(tmp_path / "my.plan", runtime_version="10.13.3.9")
    with pytest.raises(EngineError, match=r"Triton 26\.07, which has TensorRT 11\.1\.0, got one"):
        serving_of_plan(plan, RELEASE)


def test_a_config_that_allows_more_than_the_plan_is_found(repository):
    path = repository / NETWORK / CONFIG
    larger = config(repository, NETWORK)
    larger.max_batch_size = 16
    path.write_text(text_format.MessageToString(larger))

    found = problems_of(repository)

    assert any("expected max_batch_size of at most 4" in problem for problem in found)


def test_a_plan_that_changed_is_found(repository):
    (repository / NETWORK / "1" / "model.plan").write_bytes(b"another")
    assert any("changed after `tools build-engine`" in it for it in problems_of(repository))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runtime": "tensorrt-rtx"}, "expected an engine of tensorrt, got tensorrt-rtx"),
        (
            {"pipeline": "?"},
            "expected a record of `tools build-engine` beside it, got none that fits",
        ),
    ],
)
def test_what_triton_would_not_load_is_refused(tmp_path, changes, said):
    with pytest.raises(PoseError, match=said):
        open_plan(plan_at(tmp_path / "my.plan", **changes))


def test_a_file_without_a_record_is_refused(tmp_path):
    plan = plan_at(tmp_path / "my.plan")
    record_path(plan).unlink()
    with pytest.raises(EngineError, match=r"expected a record of `tools build-engine`"):
        open_plan(plan)


def test_a_plan_does_not_go_to_a_server_without_a_gpu(tmp_path):
    with pytest.raises(RepositoryError, match=r"a plan needs a GPU.*--target gpu"):
        build_repository(plan_at(tmp_path / "my.plan"), tmp_path / "r", cpu())


# --target cpu


@pytest.mark.parametrize("backend", [NetworkBackend.ONNXRUNTIME, NetworkBackend.OPENVINO])
def test_on_a_cpu_the_network_runs_in_tritons_own_backend(tmp_path, tiny_onnx, backend):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    build_repository(model, tmp_path / "r", cpu(backend=backend))

    network = config(tmp_path / "r", NETWORK)
    assert network.backend == backend
    assert network.instance_group[0].kind == triton.ModelInstanceGroup.KIND_CPU
    place = tmp_path / "r" / NETWORK / "1"
    assert {path.name for path in place.iterdir()} == {"model.onnx", PIPELINE}
    assert config(tmp_path / "r", PREPROCESS).backend == "python"
    assert problems_of(tmp_path / "r") == []


# commands


def test_build_for_a_gpu_and_check_for_another_release(tmp_path):
    plan = plan_at(tmp_path / "my.plan")
    out = str(tmp_path / "gpu")

    built = CliRunner().invoke(app, ["build-repo", str(plan), "--target", "gpu", "-o", out])
    checked = CliRunner().invoke(app, ["check-repo", out, "--triton-version", "25.10"])

    assert built.exit_code == 0, built.output
    assert "nvcr.io/nvidia/tritonserver:26.07-py3" in built.output
    assert checked.exit_code == 1
    assert "which has TensorRT 10.13.3, got one built with TensorRT 11.1.0.106" in checked.output


def test_the_embedded_server_does_not_serve_it(repository):
    result = CliRunner().invoke(app, ["serve", str(repository)])
    assert isinstance(result.exception, RepositoryError)
    assert "got one for gpu" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "cpu", "--precision", "bf16"), "expected a network that model.py runs"),
        (("--triton-version", "26.07"), "the embedded server has one"),
        (("--preprocess", "cuda"), "expected --device cuda with it"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(arguments, said):
    result = CliRunner().invoke(app, ["build-repo", *arguments])
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("options", [(), ("--target", "gpu")])
def test_an_onnx_file_goes_to_a_gpu_without_tensorrt(options, tmp_path, tiny_onnx):
    model = tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec())
    command = ["build-repo", str(model), "--device", "cuda", *options, "-o", str(tmp_path / "r")]

    built = CliRunner().invoke(app, command)

    network = config(tmp_path / "r", NETWORK)
    parameters = {key: value.string_value for key, value in network.parameters.items()}
    assert built.exit_code == 0, built.output
    assert parameters == {"runtime": "cuda", "precision": "f16", "batches": "1,8,16,32"}
    assert (network.backend, network.max_batch_size) == ("python", 32)
    assert network.HasField("dynamic_batching")
    assert problems_of(tmp_path / "r") == []


def test_jpegs_go_to_the_network_where_a_gpu_decodes(tmp_path, tiny_onnx):
    model = tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec())
    options = ["--device", "cuda", "--preprocess", "cuda", "--gpus", "2"]

    built = CliRunner().invoke(app, ["build-repo", str(model), *options, "-o", str(tmp_path / "r")])

    network, preprocess = config(tmp_path / "r", NETWORK), config(tmp_path / "r", PREPROCESS)
    assert built.exit_code == 0, built.output
    assert network.parameters["decodes_on"].string_value == "cuda"
    assert preprocess.parameters["decodes_on"].string_value == "cuda"
    assert [tensor.name for tensor in network.input] == ["encoded", "place"]
    assert network.instance_group[0].count == 4  # two on each GPU
    assert network.model_warmup[0].inputs["encoded"].input_data_file == "encoded"
    assert problems_of(tmp_path / "r") == []


def test_several_gpus_need_a_network_on_gpus(tmp_path, tiny_onnx):
    model = tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec())

    built = CliRunner().invoke(app, ["build-repo", str(model), "--gpus", "2"])

    assert "gpus: expected 1 where the device is cpu, got 2" in str(built.exception)


def test_a_plan_is_run_by_the_embedded_servers_own_step(tmp_path):
    plan = plan_at(tmp_path / "my.plan")
    built = CliRunner().invoke(
        app, ["build-repo", str(plan), "--device", "cuda", "-o", str(tmp_path / "r")]
    )

    assert built.exit_code == 0, built.output
    network = config(tmp_path / "r", NETWORK)
    assert network.backend == "python"
    assert network.parameters["runtime"].string_value == "tensorrt"
    version = tmp_path / "r" / NETWORK / "1"
    assert (version / "model.plan").read_bytes() == plan.read_bytes()
    assert json.loads((version / "model.plan.json").read_text())["settings"]["runtime_version"]
    assert not (version / "model.onnx").exists()
    assert problems_of(tmp_path / "r") == []


def test_a_plan_takes_pixels_only(tmp_path):
    plan = plan_at(tmp_path / "my.plan")
    options = ["--device", "cuda", "--preprocess", "cuda", "-o", str(tmp_path / "r")]

    built = CliRunner().invoke(app, ["build-repo", str(plan), *options])

    assert "expected an ONNX file where the GPU decodes JPEGs, got a plan" in str(built.exception)
