"""The image of the models: built twice it has one id, and it comes back whole from a registry."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bodypose_tools.deploying.files import write_deploy_files
from bodypose_tools.deploying.values import Deployment
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.repository import targets
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.check import problems_of
from tests.processes import free_port
from tests.serving import SPEC

Program = Callable[..., str]


@pytest.fixture(scope="module")
def program() -> Program:
    """Runs one of the programs that make, carry and unpack images."""
    for name in ("buildah", "skopeo", "umoci", "docker-registry"):
        if shutil.which(name) is None:
            pytest.skip(f"needs what makes images: run `apt-get install {name}`")

    def run(*command: object) -> str:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, timeout=200
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def images(program, tmp_path_factory) -> Path:
    """A folder with a repository, the files to deploy it, and the image, built twice."""
    folder = tmp_path_factory.mktemp("images")
    build_repository(SHIPPED_MODEL, folder / "model_repository", targets.cpu())
    write_deploy_files(folder / "model_repository", folder / "deploy", Deployment())
    for name in ("one", "two"):  # each with a storage of its own, so that nothing is remembered
        copy = folder / name
        shutil.copytree(folder / "model_repository", copy / "model_repository")
        shutil.copyfile(folder / "model_repository.json", copy / "model_repository.json")
        build = ("build", "--isolation", "chroot", "--timestamp", "0", "--tag", "models:1")
        file = folder / "deploy" / "Containerfile.models"
        program(*_buildah(copy), *build, "--file", file, copy)
    return folder


def _buildah(folder: Path) -> tuple[object, ...]:
    places = ("--root", folder / "storage", "--runroot", folder / "run")
    return ("buildah", *places, "--storage-driver", "vfs")


@pytest.fixture
def registry(tmp_path) -> Iterator[str]:
    """host:port of a registry on loopback."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "config.yml").write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'blobs'}}}}}\n"
        f"http: {{addr: '{address}'}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", tmp_path / "config.yml"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(address.split(":")[1])), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def test_built_twice_it_has_one_id(images, program):
    ids = [
        program(*_buildah(images / name), "images", "--quiet", "--no-trunc", "models:1")
        for name in ("one", "two")
    ]
    assert ids[0] == ids[1]
    assert ids[0].startswith("sha256:")


def test_it_comes_back_whole_from_a_registry(images, program, registry, tmp_path):
    reference = f"{registry}/models:1"
    pushed, plain = tmp_path / "digest", "--tls-verify=false"
    program(*_buildah(images / "one"), "push", plain, "--digestfile", pushed, "models:1", reference)
    by_digest = f"docker://{registry}/models@{pushed.read_text().strip()}"
    described = json.loads(program("skopeo", "inspect", plain, by_digest))
    assert len(described["Layers"]) <= 2
    program("skopeo", "copy", "--src-tls-verify=false", by_digest, f"oci:{tmp_path / 'oci'}:1")
    program("umoci", "unpack", "--rootless", "--image", f"{tmp_path / 'oci'}:1", tmp_path / "out")

    root = tmp_path / "out" / "rootfs"
    assert {path.name for path in root.iterdir()} == {"models", "models.json"}
    assert problems_of(root / "models", None) == []
    for path in (images / "model_repository").rglob("*"):
        if path.is_file():
            copy = root / "models" / path.relative_to(images / "model_repository")
            assert copy.read_bytes() == path.read_bytes()
            assert copy.stat().st_mode & 0o004, copy  # read by another user than root
    deployment = Deployment(models_image=by_digest.removeprefix("docker://"))
    write_deploy_files(images / "model_repository", tmp_path / "deploy", deployment)
    values = (tmp_path / "deploy" / "chart" / "values.yaml").read_text()
    assert f'image: "{deployment.models_image}"' in values


def test_another_model_is_another_image(images, program, tmp_path, tiny_onnx):
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    build_repository(model, tmp_path / "model_repository", targets.cpu())
    build = ("build", "--isolation", "chroot", "--timestamp", "0", "--quiet")
    file = images / "deploy" / "Containerfile.models"
    other = program(*_buildah(tmp_path), *build, "--file", file, tmp_path)
    first = program(*_buildah(images / "one"), "images", "--quiet", "--no-trunc", "models:1")
    assert other != first.removeprefix("sha256:")
