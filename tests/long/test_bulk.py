"""Bulk runs that are killed or run out of disk: the rerun has each image exactly once.

Each test starts `tools bulk` as a person does, in processes or, with `--address`, on Ray.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray", reason="needs Ray: run pip install -e '.[bulk]'")

from bodypose_tools.cli import app
from tests.bulk_inputs import NO_IMAGE, as_folder, as_links, grey_of_row, greys
from tests.greys import urls_in
from tests.processes import TOOLS, until_ready, wait_for
from tests.serving import SPEC
from tests.skips import isolated

assert app  # what the started programs run

ON_RAY = ("--address", "local")
ENGINES = [pytest.param(ON_RAY, id="ray"), pytest.param((), id="processes")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_onnx) -> Path:
    return tiny_onnx(tmp_path_factory.mktemp("net") / "tiny.onnx", SPEC)


@pytest.fixture
def start(tmp_path) -> Iterator:
    """Starts `tools bulk in -o out`; ended by force if a test fails."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*TOOLS, "bulk", tmp_path / "in", "-o", tmp_path / "out", *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that have a network: Ray's actors, or those of the pool."""
    names = ("MapWorker", "spawn_main")
    found = []
    for each in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(name in " ".join(each.cmdline()) for name in names):
                found.append(each)
        except psutil.NoSuchProcess:
            continue
    return found


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def wait_for_a_part(out: Path) -> None:
    wait_for(lambda: list(out.glob("part-*.parquet")), 120)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_is_replaced_and_each_image_comes_once(engine, tiny, tmp_path, start):
    expected = as_links(tmp_path / "in", 3000)
    process = start("-m", tiny, "--part-size", 50, "--workers", 1, *engine)
    wait_for_a_part(tmp_path / "out")

    (worker,) = workers_of(process)
    worker.kill()

    assert "3000 images, 3000 people, 0 errors" in finished(process)
    assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 60
    assert grey_of_row(tmp_path / "out") == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_driver_leaves_no_process_and_a_rerun_finishes(engine, tiny, tmp_path, start):
    expected = as_links(tmp_path / "in", 3000)
    options = ("-m", tiny, "--part-size", 50, "--workers", 1, *engine)
    process = start(*options)
    wait_for_a_part(tmp_path / "out")
    everyone = psutil.Process(process.pid).children(recursive=True)
    # Ray's two agents, which do nothing any more, take a minute to notice.
    working = [each for each in everyone if "Agent" not in name_of(each)]
    assert workers_of(process)

    process.kill()

    assert psutil.wait_procs(working, timeout=30)[1] == []
    done_before = len(list((tmp_path / "out").glob("part-*.parquet")))
    assert done_before < 60
    assert not (tmp_path / "out/_bulk.json").exists()
    rerun = start(*options)
    assert "3000 images, 3000 people, 0 errors" in finished(rerun)
    assert grey_of_row(tmp_path / "out") == expected


def test_workers_that_are_killed_again_and_again_are_one_line(tiny, tmp_path, start):
    expected = as_links(tmp_path / "in", 3000)
    options = ("-m", tiny, "--part-size", 50, "--workers", 2)
    process = start(*options)
    wait_for_a_part(tmp_path / "out")

    while process.poll() is None:
        for worker in workers_of(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()
        time.sleep(0.01)

    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    errors = [line for line in stderr.splitlines() if "error" in line.lower()]
    assert len(errors) == 1
    assert "got killed 3 times" in errors[0]
    assert "3000 images, 3000 people, 0 errors" in finished(start(*options))
    assert grey_of_row(tmp_path / "out") == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk_is_one_line_and_a_rerun_with_room_finishes(engine, tiny, tmp_path):
    expected = as_links(tmp_path / "in", 500)
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    options = ("-m", tiny, "--part-size", 50, "--workers", 1, *engine)
    script = f"""
        set -e
        mount -t tmpfs -o size=1m tmpfs {disk}
        bulk() {{ '{sys.executable}' -c 'from bodypose_tools.cli import main; main()' bulk \
            {tmp_path}/in -o {disk}/out {" ".join(map(str, options))}; }}
        dd if=/dev/zero of={disk}/filler bs=1k count=930 2>/dev/null
        bulk && exit 3
        echo "there were $(ls {disk}/out/part-*.parquet | wc -l) parts and $(ls {disk}/out/_bulk*)"
        rm {disk}/filler
        bulk
        cp -r {disk}/out {kept}
    """
    done = subprocess.run(
        [*isolated("true"), "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    assert re.search("there were [1-9] parts and \n", done.stdout)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert "Traceback" not in done.stderr
    assert grey_of_row(kept) == expected
    assert [path.name for path in kept.iterdir() if path.name.startswith(".")] == []


def test_memory_is_flat_over_many_images(tiny, tmp_path, start):
    as_links(tmp_path / "in", 6000)
    process = start("-m", tiny, "--part-size", 50, "--workers", 2)
    parts, seen = 120, {}
    while process.poll() is None:
        done = len(list((tmp_path / "out").glob("part-*.parquet")))
        memory = 0
        for each in [psutil.Process(process.pid), *workers_of(process)]:
            try:
                memory += each.memory_info().rss
            except psutil.NoSuchProcess:
                break
        else:
            seen[done] = memory / 2**20
        time.sleep(0.05)
    finished(process)

    early = max(mib for done, mib in seen.items() if parts / 6 < done <= parts / 2)
    late = max(mib for done, mib in seen.items() if parts / 2 < done < parts)
    assert late < early + 16, seen


@pytest.mark.triton
def test_a_server_that_is_full_and_then_restarted_loses_no_image(serve, tmp_path, start):
    images = {**greys(400), "00007.png": NO_IMAGE}
    source = as_folder(tmp_path / "in", images)
    process = serve()
    urls = urls_in(until_ready(process))
    running = start(
        *("--server", f"grpc://{urls['gRPC']}", "--in-flight", 100, "--part-size", 100),
    )
    wait_for_a_part(tmp_path / "out")
    stub = [
        each
        for each in psutil.Process(process.pid).children(recursive=True)
        if "bodypose_network" in " ".join(each.cmdline())
    ]
    os.kill(stub[0].pid, signal.SIGKILL)  # `tools serve` restarts the server

    assert "400 images, 399 people, 1 errors" in finished(running)
    expected = {f"{source}/{name}": 5 + number % 40 for number, name in enumerate(images)}
    assert grey_of_row(tmp_path / "out") == {**expected, f"{source}/00007.png": None}
    record = json.loads((tmp_path / "out/_bulk.json").read_text())
    assert record["model"]["runtime"] == "server"
