"""Every block of docs/bulk.md, run as it stands: commands, Slurm's script, Kubernetes' job."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("ray", reason="needs Ray: run pip install -e '.[bulk]'")

from bodypose_client.pictures.examples import EXAMPLES
from bodypose_tools.cli import app
from tests.bulk_inputs import as_folder, as_parquet, as_tar
from tests.pages import ROOT, blocks
from tests.processes import free_port

pytestmark = pytest.mark.triton
assert app  # what the blocks run

PAGE = ROOT / "docs" / "bulk.md"
BLOCKS = blocks(PAGE)
COUNT = 5
PHOTOS = [*EXAMPLES.values()]


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with what the page speaks of."""
    desk = tmp_path_factory.mktemp("desk")
    images = {f"{n}.jpg": PHOTOS[n % len(PHOTOS)].read_bytes() for n in range(COUNT)}
    as_folder(desk / "photos", images)
    (desk / "list.txt").write_text("".join(f"photos/{name}\n" for name in images))
    as_parquet(desk / "photos.parquet", {"image": list(images.values())})
    (desk / "shards").mkdir()
    as_tar(desk / "shards/00.tar", images)
    as_tar(desk / "shards/01.tar", images)
    commands = desk / "bin"
    commands.mkdir()
    (commands / "tools").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m bodypose_tools.cli "$@"\n'
    )
    (commands / "tools").chmod(0o755)
    return desk


@pytest.fixture
def cluster() -> Iterator[tuple[str, str]]:
    """Address and token of a Ray cluster of one machine."""
    port = free_port()
    token = "0" * 32
    start = ["--head", "--block", f"--port={port}", "--num-cpus=2", "--include-dashboard=false"]
    process = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", *start, "--node-ip-address=127.0.0.1"],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if "--block" in line:  # its last words
                break
        yield f"127.0.0.1:{port}", token
    finally:
        everyone = [*psutil.Process(process.pid).children(recursive=True), process]
        for each in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()


@pytest.fixture
def run(desk, server, request):
    """Run a shell script in that folder; its output."""

    def call(script: str, **variables: str) -> str:
        script = script.replace("127.0.0.1:8001", server.grpc_url)
        if "10.0.0.1:6379" in script:
            cluster, token = request.getfixturevalue("cluster")
            script = script.replace("10.0.0.1:6379", cluster)
            variables["RAY_AUTH_TOKEN"] = token
        python = str(Path(sys.executable).parent)
        path = os.pathsep.join((str(desk / "bin"), python, os.environ["PATH"]))
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=desk,
            env={**os.environ, "PATH": path, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return call


def output_of(block: str) -> str:
    return re.search(r"-o (\S+)", block).group(1)


def paths_in(folder: Path) -> list[str]:
    """Of every row; `_bulk.json` says that all parts are there."""
    assert (folder / "_bulk.json").exists()
    return pq.read_table(folder)["path"].to_pylist()


def test_every_block_is_of_a_kind_that_is_run():
    assert {language for language, _ in BLOCKS} == {"sh", "python", "yaml"}
    assert len(BLOCKS) > 8


@pytest.mark.parametrize(
    "block", [body for language, body in BLOCKS if language == "sh" and "SLURM" not in body]
)
def test_a_command_gives_each_image_once(block, run, desk):
    run(block)

    paths = paths_in(desk / output_of(block))
    assert len(paths) == len(set(paths)) == COUNT * (4 if "shards" in block else 1)
    shutil.rmtree(desk / output_of(block))


def test_python_reads_the_folder(run):
    first, block = BLOCKS[0][1], next(body for language, body in BLOCKS if language == "python")
    run(first)

    said = run(f"{sys.executable} - <<'END'\n{block}\nEND")

    assert len(said.splitlines()) >= COUNT
    assert re.match(r"photos/\d\.jpg nose \[", said)


def test_slurms_array_gives_each_image_once(run, desk):
    block = next(body for _, body in BLOCKS if "SLURM" in body)
    for task in range(2):
        run(block, SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT="2")

    assert len(set(paths_in(desk / output_of(block)))) == COUNT


def test_the_job_of_kubernetes_is_valid_and_gives_each_image_once(run, desk):
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="run make .venv/.dev")
    job = yaml.safe_load(next(body for language, body in BLOCKS if language == "yaml"))
    for version in ("1.30", "1.37"):
        kubernetes_validate.validate(job, version, strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    shell, option, script = container["command"]
    assert (shell, option) == ("sh", "-c")
    assert job["spec"]["completions"] == 16
    for index in range(3):  # 5 images in parts of 2
        run(script, JOB_COMPLETION_INDEX=str(index))

    assert len(set(paths_in(desk / output_of(script)))) == COUNT
