"""How the server stops, what a balancer sees of it, and how it comes back when it breaks."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc
from tritonclient import http as tritonhttp
from tritonclient.utils import InferenceServerException

from bodypose_client.errors import RequestRejected
from bodypose_tools.repository.pbtxt import ENSEMBLE, NETWORK
from tests.greys import GREYS, grey_png, grey_seen, model_processes, patient_client, urls_in
from tests.processes import command_of, free_ports, left_by, processes_of, until_ready, wait_for

pytestmark = pytest.mark.triton

Outcome = tuple[float, str]  # when it was asked, and "answered" or the status


@contextmanager
def callers(ask: Callable[[], str], threads: int = 6) -> Iterator[list[Outcome]]:
    """Threads that ask without a pause, as long as the block lasts."""
    outcomes: list[Outcome] = []
    end = threading.Event()

    def go_on() -> None:
        while not end.is_set():
            asked = time.monotonic()
            outcomes.append((asked, ask()))

    running = [threading.Thread(target=go_on) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield outcomes
    finally:
        end.set()
        for thread in running:
            thread.join()


def plain_client(protocol: str, urls: dict[str, str]) -> Callable[[], str]:
    """Triton's own client, which does not ask again; a connection for each request."""
    module, url = {"grpc": (grpc, urls["gRPC"]), "http": (tritonhttp, urls["HTTP"])}[protocol]

    def ask() -> str:
        tensor = module.InferInput("image", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[grey_png(99)]], np.object_))
        try:
            with module.InferenceServerClient(url) as client:
                client.infer(ENSEMBLE, [tensor])
        except InferenceServerException as error:
            return f"{error.status()} {error.message()}"
        except (OSError, http.client.HTTPException):
            return "nobody there"
        return "answered"

    return ask


def is_ready(urls: dict[str, str]) -> bool:
    connection = http.client.HTTPConnection(urls["HTTP"], timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_sigterm_turns_ready_off_first_and_answers_until_it_has_drained(serve, protocol):
    process = serve(*free_ports()[:-1], "2")
    urls = urls_in(until_ready(process))
    with callers(plain_client(protocol, urls)) as outcomes:
        wait_for(lambda: len(outcomes) > 30)
        terminated = time.monotonic()
        process.terminate()
        wait_for(lambda: not is_ready(urls))
        unready = time.monotonic()
        while process.poll() is None:
            assert not is_ready(urls), "it is stopping, and says that it is ready"
            time.sleep(0.02)
        ended = time.monotonic()

    refused = [(asked, status) for asked, status in outcomes if status != "answered"]
    first_refusal = min(asked for asked, _ in refused)
    assert process.returncode == 0
    assert unready - terminated < 15
    assert first_refusal > unready + 1.5  # by then it had drained
    assert ended - first_refusal < 30
    for _, status in refused:
        assert re.match(r"StatusCode.UNAVAILABLE|503|nobody there|StatusCode.CANCELLED", status)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_does_not_drain(serve, tmp_path):
    process = serve(*free_ports()[:-1], "60")
    until_ready(process)

    process.send_signal(signal.SIGINT)

    process.wait(20)
    assert process.returncode == 0
    assert left_by(process, tmp_path) == []


def nested_json(urls: dict[str, str]) -> None:
    """A body that ends tritonserver 2.51 with SIGSEGV (server PR 8172)."""
    body = b"[" * 1_000_000 + b"]" * 1_000_000
    connection = http.client.HTTPConnection(urls["HTTP"], timeout=10)
    try:
        connection.request("POST", f"/v2/models/{ENSEMBLE}/infer", body)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass
    finally:
        connection.close()


def test_a_crash_of_tritonserver_itself_is_mended(serve, tmp_path):
    process = serve()
    urls = urls_in(until_ready(process))
    # An old complaint, which is not the reason of the crash.
    with pytest.raises(RequestRejected), patient_client("grpc", urls) as client:
        client.infer(b"no image")

    nested_json(urls)

    line = process.stderr.readline()
    assert line.startswith("tritonserver: its process was killed or crashed (SIGSEGV"), line
    assert "no image" not in line
    assert re.match(r"tritonserver: ready again after", process.stderr.readline())
    with patient_client("grpc", urls) as client:
        assert [grey_seen(client, grey) for grey in GREYS[:40:8]] == GREYS[:40:8]
    process.terminate()
    process.wait(15)
    assert left_by(process, tmp_path) == []


def test_a_model_that_hangs_is_noticed_and_replaced(serve):
    """So are the other models and the server: tests/long/test_kills.py."""
    hang(serve, NETWORK)


def hang(serve, model: str) -> None:
    """Stop the process of a model, or of `tritonserver`, and expect it to be replaced."""
    process = serve()
    urls = urls_in(until_ready(process))
    pids = (
        processes_of(process, "tritonserver")
        if model == "tritonserver"
        else model_processes(process, model)
    )
    stopped = time.monotonic()
    os.kill(pids[0], signal.SIGSTOP)

    line = process.stderr.readline()

    assert line == f"{model}: its process hangs; the server is restarted\n"
    assert time.monotonic() - stopped < 60
    assert "ready again after" in process.stderr.readline()
    with patient_client("grpc", urls) as client:
        assert [grey_seen(client, grey) for grey in GREYS[:40:8]] == GREYS[:40:8]


def guards_of(serving: subprocess.Popen[str]) -> list[int]:
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    name = f"bodypose_{serving.pid}_"
    return [pid for pid in pids if "guard.py" in command_of(pid) and name in command_of(pid)]


def test_a_serve_killed_after_its_guard_leaves_no_triton_behind(serve):
    process = serve()
    until_ready(process)
    (guard,) = guards_of(process)

    os.kill(guard, signal.SIGKILL)
    process.kill()
    process.wait()

    wait_for(lambda: processes_of(process, "tritonserver") == [])
    wait_for(lambda: processes_of(process, "triton_python_backend_stub") == [])


def test_a_killed_guard_is_replaced(serve, tmp_path):
    process = serve()
    until_ready(process)
    (guard,) = guards_of(process)
    os.kill(guard, signal.SIGKILL)
    wait_for(lambda: guards_of(process) not in ([], [guard]))

    process.kill()
    process.wait()

    wait_for(lambda: left_by(process, tmp_path) == [])


def test_questions_to_models_are_counted_nowhere(serve):
    """An idle server asks its own models whether they live; nobody's alarm is moved by that."""
    process = serve()
    urls = urls_in(until_ready(process))
    time.sleep(4)

    connection = http.client.HTTPConnection(urls["metrics"].removesuffix("/metrics"), timeout=10)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()

    counted = re.findall(r"^pose_\S+ (\S+)$", page, re.M)
    assert counted
    assert {float(value) for value in counted} == {0}
    asked = re.findall(
        r'^nv_inference_request_failure{[^}]*model="(bodypose_\w+)[^}]*} (\S+)', page, re.M
    )
    assert asked
