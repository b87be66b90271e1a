"""`tools tune --url` tunes a server that runs already, through the repository that it follows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.check import problems_of
from bodypose_tools.repository.retuning import tuning_of
from bodypose_tools.repository.tuning import Tuning
from bodypose_tools.server.embedded import embedded_server
from bodypose_tools.server.settings import Updates
from pose_runtime.spec import PipelineSpec
from tests.serving import MISSING_WHEEL

pytestmark = pytest.mark.triton


@pytest.mark.skipif(importlib.util.find_spec("pytriton") is None, reason=MISSING_WHEEL)
def test_the_best_settings_stay_in_the_repository(tmp_path, tiny_onnx: Callable[..., Path]):
    model = tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec(network_hw=(32, 48)))
    repository, output = tmp_path / "served", tmp_path / "tuning.json"
    build_repository(model, repository)

    with embedded_server(repository, updates=Updates.POLL) as server:
        options = ["--url", server.grpc_url, "--repository", str(repository), "--seconds", "0.2"]
        result = CliRunner().invoke(app, ["tune", *options, "-o", str(output)])

    assert result.exit_code == 0, result.output
    found = Tuning.load(output)
    assert found.measured_on.startswith("Triton 2.")
    assert server.grpc_url in found.measured_on
    assert problems_of(repository) == []
    kept = tuning_of(repository)
    assert (kept.network_instances, kept.network_batch) == (
        found.network_instances,
        found.network_batch,
    )
    built = ["build-repo", str(model), "--tuning", str(output), "-o", str(tmp_path / "again")]
    assert CliRunner().invoke(app, built).exit_code == 0
    assert tuning_of(tmp_path / "again") == kept
    cpu = ["build-repo", str(model), "--target", "cpu", "--tuning", str(output)]
    assert CliRunner().invoke(app, [*cpu, "-o", str(tmp_path / "cpu")]).exit_code == 0
    assert problems_of(tmp_path / "cpu") == []
    assert tuning_of(tmp_path / "cpu").network_instances == found.network_instances
