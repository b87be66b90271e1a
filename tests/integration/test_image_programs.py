"""The two programs of the server's image, with the embedded tritonserver in its place."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from bodypose_tools.deploying.files import write_deploy_files
from bodypose_tools.deploying.values import Deployment
from bodypose_tools.repository import targets
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.pbtxt import ENSEMBLE, NETWORK
from bodypose_tools.server.command import free_ports
from bodypose_tools.server.settings import Ports
from bodypose_tools.server.wheel import copy_backend, find_wheel, server_environment
from tests.processes import command_of, wait_for
from tests.serving import SPEC

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def programs(tmp_path_factory, tiny_onnx) -> Path:
    """The folder with serve.sh and alive.py."""
    folder = tmp_path_factory.mktemp("image")
    model = tiny_onnx(folder / "tiny.onnx", SPEC)
    build_repository(model, folder / "repository", targets.cpu())
    write_deploy_files(folder / "repository", folder / "deploy", Deployment())
    return folder / "deploy"


class Container:
    """serve.sh with what the image would have."""

    def __init__(self, programs: Path, repository: Path, folder: Path) -> None:
        wheel = find_wheel()
        backends, path = folder / "backends", folder / "bin"
        copy_backend(wheel, backends)
        path.mkdir()
        (path / "tritonserver").symlink_to(wheel / "bin" / "tritonserver")
        ports = free_ports(Ports())
        environment = server_environment(wheel)
        self.programs, self.http = programs, f"127.0.0.1:{ports.http}"
        self.environment = {
            **environment,
            "PATH": f"{path}:{environment['PATH']}",
            "MODELS": str(repository),
            "TMPDIR": str(folder),
            "EXIT_TIMEOUT_S": "5",
            "HTTP_PORT": str(ports.http),
            "GRPC_PORT": str(ports.grpc),
            "METRICS_PORT": str(ports.metrics),
        }
        name = f"image_{os.getpid()}_{ports.http}"
        options = (f"--backend-directory={backends}", "--allow-gpu-metrics=false")
        region = f"--backend-config=python,shm-region-prefix-name={name}"
        self.regions = f"/dev/shm/{name}"
        self.process = subprocess.Popen(
            [programs / "serve.sh", *options, region, "--pinned-memory-pool-byte-size=0"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def status(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(self.http, timeout=20)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def alive(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, self.programs / "alive.py"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def stub(self, model: str) -> int:
        """The process of a Python model."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        (pid,) = (
            each.pid
            for each in children
            if "triton_python_backend_stub" in command_of(each.pid)
            and f"/{model}/" in command_of(each.pid)
        )
        return pid

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for region in Path("/dev/shm").glob(f"{Path(self.regions).name}*"):
            region.unlink(missing_ok=True)


@pytest.fixture
def container(programs, repository, tmp_path) -> Iterator[Container]:
    started = Container(programs, repository, tmp_path)
    try:
        wait_for(lambda: started.status("GET", "/v2/health/ready") == 200, seconds=60)
        yield started
    finally:
        started.close()


def test_it_serves_with_other_apis_closed_and_ends_at_sigterm(container):
    assert container.alive().returncode == 0
    for path in ("/v2/repository/index", f"/v2/repository/models/{ENSEMBLE}/unload"):
        assert container.status("POST", path) in (400, 403, 404)
    for path in ("/v2/systemsharedmemory/status", "/v2/logging", "/v2/trace/setting"):
        assert container.status("GET", path) in (400, 403, 404)
    assert container.status("GET", f"/v2/models/{ENSEMBLE}/ready") == 200

    container.process.terminate()  # reaches tritonserver, which took the shell's place
    assert container.process.wait(20) == 0


def test_a_connection_that_stays_open_holds_it_for_its_exit_timeout(container):
    """As a gateway's do: so the grace is at least drain and exit timeout."""
    connection = http.client.HTTPConnection(container.http, timeout=20)
    connection.request("GET", "/v2/health/ready")
    connection.getresponse().read()
    begun = time.monotonic()

    container.process.terminate()
    container.process.wait(40)
    took_s = time.monotonic() - begun
    connection.close()

    assert container.environment["EXIT_TIMEOUT_S"] == "5"
    assert 4 < took_s < 15


def test_a_server_whose_model_has_died_is_ready_and_not_alive(container):
    os.kill(container.stub(NETWORK), signal.SIGKILL)

    done = container.alive()

    assert done.returncode == 1
    assert done.stderr.startswith("expected an answer or 503, got ")
    assert len(done.stderr.splitlines()) == 1
    assert container.status("GET", "/v2/health/ready") == 200


@pytest.mark.parametrize(
    ("status", "alive"), [(200, True), (503, True), (500, False), (400, False)]
)
def test_a_server_that_is_full_is_alive(programs, repository, status, alive):
    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = subprocess.run(
            [sys.executable, programs / "alive.py"],
            env={**os.environ, "MODELS": str(repository), "HTTP_PORT": str(server.server_port)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        thread.join()
    assert (done.returncode == 0) == (status in (200, 503)), done.stderr


def test_nobody_there_is_not_alive_in_one_line(programs, repository):
    done = subprocess.run(
        [sys.executable, programs / "alive.py"],
        env={**os.environ, "MODELS": str(repository), "HTTP_PORT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
