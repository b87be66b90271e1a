"""The image, prove.py and the chart's pod on a real container engine, before a stand-in for Triton.

The stand-in is of `tests.containers`: Triton 2.51 of the embedded server's wheel, not NVIDIA's
image. It has no ONNX Runtime backend, so the repository is the embedded server's.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import NO_RETRIES
from bodypose_tools.deploying.settings import OLDEST_KUBERNETES
from bodypose_tools.results.record import read_made
from bodypose_tools.server.readiness import is_server_ready
from pose_runtime.errors import PoseError
from tests.benchmarks.container import prove, write_container_files
from tests.charts import template
from tests.containers import (
    MISSING_ENGINE,
    STAND_IN,
    Engine,
    can_contain,
    make_stand_in,
    running_engine,
)
from tests.processes import wait_for

pytestmark = [pytest.mark.triton, pytest.mark.slow]

POD, CONTAINER = "pose-pod-0", "pose-pod-0-server"
PICTURES = Path(__file__).parents[2] / "client" / "bodypose_client" / "pictures" / "examples"
ADDRESS = "127.0.0.1:8000"  # in the engine's network
CALLERS = 4


@pytest.fixture(scope="module")
def deploy(tmp_path_factory) -> Path:
    """The files that `tools deploy-files` writes for a container."""
    return write_container_files(tmp_path_factory.mktemp("deployed"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[Engine]:
    """An engine that has the stand-in."""
    if not can_contain():
        pytest.skip(MISSING_ENGINE)
    folder = tmp_path_factory.mktemp("engine")
    with running_engine(folder) as engine:
        make_stand_in(engine, folder / "stand_in")
        yield engine


def ran(script: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_it_says_what_it_would_run(deploy, tmp_path):
    words = ("-a", "val.json", "-i", "val", "--dry-run", "--gpus", "all")
    done = ran(deploy / "prove.py", tmp_path / "for_a_container", *words)

    assert done.returncode == 0, done.stderr
    build, _, _, _, run, _ = (shlex.split(line) for line in done.stdout.splitlines())
    assert build[:3] == ["docker", "build", "--tag"]
    assert {"--read-only", "--cap-drop", "--gpus", build[3]} <= set(run)
    assert run[-1] == build[3]
    assert "Needs Docker" in ran(deploy / "prove.py", "--help").stdout


def test_a_docker_that_is_not_there_is_one_line(deploy, tmp_path, coco):
    words = ("-a", coco / "person_keypoints_val.json", "-i", coco / "val", "--docker", "false")
    done = ran(deploy / "prove.py", tmp_path / "for_a_container", *words)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: build --tag: expected exit code 0, got")


def test_it_proves_the_image(deploy, engine, coco, shipped_repository, tmp_path):
    out = tmp_path / "container.json"
    annotations, images = coco / "person_keypoints_val.json", coco / "val"
    done = prove(engine, deploy, shipped_repository, annotations, images, out)

    assert done.returncode == 0, done.stdout + done.stderr
    record, made = read_made(out)
    assert set(record) == {"schema", "engine", "image", "steps", "held", "made"}
    assert record["schema"] == "bodypose-container/1"
    assert record["engine"].startswith("podman version ")
    assert record["image"]["tag"].startswith("bodypose-triton:")
    assert record["image"]["base"] == STAND_IN
    assert list(record["steps"]) == ["build", "serve", "evaluate", "kill", "drain"]
    assert len(record["held"]) == 6
    assert all(record["held"].values())
    assert record["steps"]["serve"]["triton"] == "2.51.0"
    assert record["steps"]["evaluate"]["metrics"]["AP"] > 0.2
    assert record["steps"]["kill"]["ready_with_a_dead_model"] is True
    assert record["steps"]["drain"]["lost"] == 0
    assert len(made["models"][0]["sha256"]) == 64
    assert len(made["data"]) == 11
    assert str(tmp_path) not in out.read_text()


@pytest.fixture
def pod(deploy, engine, shipped_repository, tmp_path) -> Iterator[dict[str, Any]]:
    """The chart's pod, played from the unchanged output of Helm; its template.

    Podman plays the Deployment and passes over the other objects, `preStop`, `fsGroup` and the
    medium of a volume, so the claim and the shared memory are volumes made before.
    """
    values = {
        "models": {"claim": "pose-models"},
        "gateway": {"enabled": False},
        "clients": [{"podSelector": {"matchLabels": {"app": "camera"}}}],
        "replicas": 1,
    }
    (deploy.parent / "values.yaml").write_text(yaml.safe_dump(values))
    manifests = template(deploy / "chart", OLDEST_KUBERNETES)
    (tmp_path / "manifests.yaml").write_text(manifests)
    (servers,) = (
        each for each in yaml.safe_load_all(manifests) if each and each["kind"] == "Deployment"
    )
    spec = servers["spec"]["template"]["spec"]
    image = spec["containers"][0]["image"]
    engine.ask("build", "--build-arg", f"BASE={STAND_IN}", "--tag", image, deploy)
    _fill_claim(engine, deploy, shipped_repository, tmp_path / "models.tar")
    memory = ("--opt", "type=tmpfs", "--opt", "device=tmpfs")
    engine.ask("volume", "create", *memory, "shared-memory")
    engine.ask("kube", "play", tmp_path / "manifests.yaml")
    yield spec
    engine.ask("pod", "rm", "--force", "--time", "5", POD)


def _fill_claim(engine: Engine, deploy: Path, repository: Path, archive: Path) -> None:
    """The contents of the models' image in the volume of the claim."""
    file = ("--file", deploy / "Containerfile.models", "--timestamp", "0")
    name = ("--build-arg", f"REPOSITORY={repository.name}", "--tag", "bodypose-models:1")
    engine.ask("build", *file, *name, repository.parent)
    engine.ask("create", "--name", "models", "bodypose-models:1", "nothing")
    engine.ask("export", "--output", archive, "models")
    engine.ask("volume", "create", "pose-models")
    engine.ask("volume", "import", "pose-models", archive)


def test_the_charts_pod_serves_and_drains(engine, pod, shipped):
    picture = next(PICTURES.glob("*.jpg")).read_bytes()
    with PoseClient(f"http://{shipped.http_url}") as client:
        direct = client.infer(picture)
    (server,) = pod["containers"]
    assert server["startupProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert server["livenessProbe"]["exec"]["command"] == ["bodypose-alive"]

    with engine.network():
        wait_for(lambda: is_server_ready(ADDRESS), seconds=120)
        engine.ask("healthcheck", "run", CONTAINER)  # the liveness probe
        _check_what_it_may(engine)
        with PoseClient(f"http://{ADDRESS}") as client:
            answer = client.infer(picture)
        # The container alone, as a kubelet does: the pod's network stays until it has ended.
        stop = ("stop", "--time", pod["terminationGracePeriodSeconds"], CONTAINER)
        outcomes = _under_load(picture, lambda: engine.ask(*stop))

    assert len(answer) == len(direct) > 0
    np.testing.assert_array_equal(answer.keypoints, direct.keypoints)
    assert len(outcomes) > CALLERS
    assert set(outcomes) == {"answered"}
    assert engine.ask("inspect", "--format", "{{.State.ExitCode}}", CONTAINER) == "0"


def _check_what_it_may(engine: Engine) -> None:
    def inside(script: str) -> str:
        return engine.ask("exec", CONTAINER, "sh", "-c", script)

    assert inside("id -u; id -g").split() == ["1000", "1000"]
    status = dict(line.split(":", 1) for line in inside("cat /proc/self/status").splitlines())
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert int(status["NoNewPrivs"]) == 1
    assert int(status["Seccomp"]) == 2
    mounts = [line.split()[1:4] for line in inside("cat /proc/mounts").splitlines()]
    options = {place: set(words.split(",")) for place, _, words in mounts}
    assert "ro" in options["/"]
    assert "ro" in options["/bodypose"]
    assert "rw" in options["/tmp"]
    assert ["/dev/shm", "tmpfs"] in [each[:2] for each in mounts]
    assert inside("cat /bodypose/models.json").startswith("{")


def _under_load(picture: bytes, act: Callable[[], object]) -> list[str]:
    """What became of each request, the last of them under way while `act` runs."""
    outcomes: list[str] = []
    end = threading.Event()

    def go_on() -> None:
        with PoseClient(f"http://{ADDRESS}", timeout_s=60, retries=NO_RETRIES) as client:
            while not end.is_set():
                try:
                    client.infer(picture)
                    outcomes.append("answered")
                except PoseError as error:
                    outcomes.append(str(error))

    callers = [threading.Thread(target=go_on) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    wait_for(lambda: len(outcomes) > CALLERS, seconds=60)
    end.set()
    act()
    for caller in callers:
        caller.join()
    return outcomes
