"""`pose-loadtest` and Locust against the real server, as a person runs them."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from bodypose_client.wire.address import Protocol
from bodypose_loadtest import workers
from bodypose_loadtest.cli import INVALID
from bodypose_loadtest.known_process import known_server
from bodypose_loadtest.known_server import Behaviour
from tests.processes import command_of, free_port, pose_loadtest, processes_of, wait_for

pytestmark = [pytest.mark.triton, pytest.mark.slow]

LOCUSTFILE = str(Path(workers.__file__).with_name("locustfile.py"))
SLOW_DRAWING = """
import time
from bodypose_loadtest import images
draw, images.load_images = images.load_images, lambda *a, **k: (time.sleep(4), draw(*a, **k))[1]
"""


def servers_of(repository):
    """Processes of `tools serve` with this repository; tritonserver is a child of each."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if {"serve", str(repository)} <= set(process.info["cmdline"] or [])
    ]


def generators_of(loadtest):
    """Processes that send the load, of one `pose-loadtest`."""
    children = psutil.Process(loadtest.pid).children(recursive=True)
    return [child for child in children if "bodypose_loadtest.generator" in command_of(child.pid)]


def python_models(servers):
    return [pid for each in servers for pid in processes_of(each, "triton_python_backend_stub")]


def test_an_embedded_server_is_started_measured_and_stopped(repository, tmp_path):
    done = pose_loadtest(
        *("run", "--scenario", "open", "--rate", 10, "--duration", "4s", "--warm-up", "1s"),
        *("--repeats", 1, "--slo", "errors<1%", "--repository", repository, "-o", tmp_path),
    )

    # On a busy machine the generator may have been late, and then it says so.
    assert done.returncode in (0, INVALID), done.stdout + done.stderr
    assert servers_of(repository) == []
    report = json.loads((tmp_path / "report.json").read_text())
    [step] = report["steps"]
    assert step["errors"] == {}
    assert step["requests"] > 20
    assert set(step["server"]["models"]) == {
        *("bodypose_preprocess", "bodypose_network", "bodypose_grouping")
    }
    # Asked at the step's begin and end, so neither the warm-up's requests nor the server's own.
    grouped = step["server"]["models"]["bodypose_grouping"]["requests"]
    assert grouped == pytest.approx(step["requests"], abs=3)
    assert step["machine"]["server_mib"] > 50
    assert re.fullmatch(r"[0-9a-f]{64}", report["model"]["model_sha256"])
    assert re.fullmatch(r"grpc:[0-9a-f]{64}", report["model"]["config_sha256"])


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_run_and_its_server(repository, tmp_path, number):
    options = ("--duration", "60s", "--repository", str(repository), "-o", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-m", "bodypose_loadtest.cli", "run", "--scenario", "steady", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            wait_for(lambda: generators_of(process), 120)
            time.sleep(1)  # its first requests are under way
            servers = servers_of(repository)
            process.send_signal(number)
            said, _ = process.communicate(timeout=45)
        finally:
            process.kill()

    if number == signal.SIGKILL:  # nobody is left to wait for the server
        wait_for(lambda: not servers_of(repository), 30)
    else:
        assert process.returncode not in (0, -number)
        assert b"Traceback" not in said
    assert servers_of(repository) == []
    assert python_models(servers) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("protocol", list(Protocol))
def test_mixed_tells_sizes_and_people_apart(server, tmp_path, protocol):
    netloc = server.grpc_url if protocol is Protocol.GRPC else server.http_url

    done = pose_loadtest(
        *("run", "--scenario", "mixed", "--users", 2, "--duration", "2s", "--warm-up", "0.5s"),
        *("--repeats", 1, "--url", f"{protocol}://{netloc}", "-o", tmp_path),
    )

    assert done.returncode in (0, INVALID), done.stdout + done.stderr
    groups = json.loads((tmp_path / "report.json").read_text())["groups"]
    sizes = {group["group"] for group in groups if group["kind"] == "size"}
    assert sizes == {"small", "medium", "large"}
    # The server's tiny network finds one person in everything.
    assert [g["group"] for g in groups if g["kind"] == "people"] == ["1 person"]


def test_nobody_at_the_url_is_one_line(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = pose_loadtest("run", "--scenario", "steady", "--url", url, "-o", tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {url}/bodypose: expected a pose server")
    assert len(done.stderr.splitlines()) == 1


def test_a_repository_that_does_not_load_is_the_tools_own_words(tmp_path):
    (tmp_path / "empty").mkdir()

    done = pose_loadtest(
        *("run", "--scenario", "steady", "--repository", tmp_path / "empty", "-o", tmp_path)
    )

    assert done.returncode == 1
    assert "run `tools build-repo`" in done.stderr


def test_locusts_page_has_both_users():
    port = free_port()
    command = [sys.executable, "-m", "locust", "-f", LOCUSTFILE]
    with known_server(Behaviour(0.05, 2)) as known:
        host = known.url(Protocol.GRPC)
        with subprocess.Popen(
            [*command, "--host", host, "--web-host", "127.0.0.1", "--web-port", str(port)],
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                page = page_at(f"http://127.0.0.1:{port}/")
                process.terminate()
                assert process.wait(20) == 0
            finally:
                process.kill()
    assert "PoseGrpcUser" in page
    assert "PoseHttpUser" in page


def locust(*arguments, before=""):
    """Locust on our file, without its page; `before` is run first, in its process."""
    script = f"from gevent import monkey; monkey.patch_all(){before}"
    script += "\nimport sys, locust.main; sys.exit(locust.main.main())"
    command = [sys.executable, "-c", script, "-f", LOCUSTFILE, "--headless", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_locusts_time_does_not_run_while_images_are_drawn():
    """Drawing takes 4 s here, as on a busy machine, the test 2."""
    with known_server(Behaviour(0.05, 2)) as known:
        host = known.url(Protocol.GRPC)
        done = locust("PoseGrpcUser", "-u2", "-r9", "-t2s", "--host", host, before=SLOW_DRAWING)

    assert done.returncode == 0, done.stderr
    (total,) = re.findall(r"^ +Aggregated +(\d+) ", done.stdout + done.stderr, re.M)[-1:]
    assert int(total) > 20


def test_locust_that_sent_nothing_has_not_passed():
    with known_server(Behaviour(30, 1)) as known:
        done = locust("PoseHttpUser", "-u1", "-t1s", "--host", known.url(Protocol.HTTP))

    assert done.returncode == 1
    assert "expected requests, got none" in done.stderr + done.stdout


def test_locusts_folder_of_images_is_checked_at_once(tmp_path):
    done = locust("PoseHttpUser", "-u1", "-t1s", "--images", str(tmp_path / "absent"))

    assert done.returncode == 2
    assert "--images: expected a folder, got" in done.stderr


def page_at(url, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(url) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
