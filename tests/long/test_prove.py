"""deploy/prove.py from begin to end, with the embedded server where Docker would have a Triton."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bodypose_tools.deploying.files import write_deploy_files
from bodypose_tools.deploying.values import Deployment
from bodypose_tools.repository import targets
from bodypose_tools.repository.build import build_repository
from bodypose_tools.results.record import read_made
from bodypose_tools.server.command import free_ports
from bodypose_tools.server.settings import Ports
from bodypose_tools.server.wheel import copy_backend, find_wheel, server_environment
from tests.serving import SPEC

pytestmark = [pytest.mark.triton, pytest.mark.coco, pytest.mark.slow]

STUB = Path(__file__).parents[1] / "stubs" / "docker.py"


@pytest.fixture
def prove(tmp_path, tiny_onnx) -> Path:
    """The script as `tools deploy-files` writes it."""
    model = tiny_onnx(tmp_path / "tiny.onnx", SPEC)
    build_repository(model, tmp_path / "for_a_container", targets.cpu())
    write_deploy_files(tmp_path / "for_a_container", tmp_path / "deploy", Deployment())
    return tmp_path / "deploy" / "prove.py"


def ran(prove: Path, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, prove, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, **variables},
    )


def test_it_says_what_it_would_run(prove, tmp_path):
    words = ("-a", "val.json", "-i", "val", "--dry-run", "--gpus", "all")
    done = ran(prove, tmp_path / "for_a_container", *words)

    assert done.returncode == 0, done.stderr
    build, _, _, run, _ = (shlex.split(line) for line in done.stdout.splitlines())
    assert build[:3] == ["docker", "build", "--tag"]
    assert {"--read-only", "--cap-drop", "--gpus", build[3]} <= set(run)
    assert run[-1] == build[3]
    assert "Needs Docker" in ran(prove, "--help").stdout


def test_a_docker_that_is_not_there_is_one_line(prove, tmp_path, coco):
    words = ("-a", coco / "person_keypoints_val.json", "-i", coco / "val", "--docker", "false")
    done = ran(prove, tmp_path / "for_a_container", *words)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: build --tag: expected exit code 0, got")


def test_its_record_says_what_held(prove, tmp_path, coco, shipped_repository):
    home, wheel, ports = tmp_path / "docker", find_wheel(), free_ports(Ports())
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "tritonserver").symlink_to(wheel / "bin" / "tritonserver")
    copy_backend(wheel, home / "backends")
    environment = server_environment(wheel)
    environment |= {
        "PATH": f"{home / 'bin'}:{environment['PATH']}",
        "TMPDIR": str(home),
        "GRPC_PORT": str(ports.grpc),
        "METRICS_PORT": str(ports.metrics),
        "EXIT_TIMEOUT_S": "5",
    }
    region = f"prove_{os.getpid()}"
    options = [
        f"--backend-directory={home / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={region}",
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
    ]
    (home / "home.json").write_text(json.dumps({"environment": environment, "options": options}))
    out = tmp_path / "container.json"
    try:
        done = ran(
            prove,
            *(shipped_repository, "-o", out, "--http-port", ports.http),
            *("-a", coco / "person_keypoints_val.json", "-i", coco / "val"),
            *("--docker", shlex.join([sys.executable, str(STUB)])),
            DOCKER_STUB=str(home),
        )
    finally:
        for left in Path("/dev/shm").glob(f"{region}*"):
            left.unlink(missing_ok=True)

    assert done.returncode == 0, done.stdout + done.stderr
    record, made = read_made(out)
    assert set(record) == {"schema", "image", "steps", "held", "made"}
    assert record["schema"] == "bodypose-container/1"
    assert record["image"]["tag"].startswith("bodypose-triton:")
    assert list(record["steps"]) == ["build", "serve", "evaluate", "kill", "drain"]
    assert len(record["held"]) == 6
    assert all(record["held"].values())
    assert record["steps"]["evaluate"]["metrics"]["AP"] > 0.2
    assert record["steps"]["kill"]["ready_with_a_dead_model"] is True
    assert record["steps"]["drain"]["lost"] == 0
    assert len(made["models"][0]["sha256"]) == 64
    assert len(made["data"]) == 11
    assert str(tmp_path) not in out.read_text()
