"""What breaks under a running server, and that callers lose nothing by it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodypose_client.errors import ServerBusy
from bodypose_client.in_flight import map_in_order
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import NO_RETRIES, PATIENT
from bodypose_tools.repository.pbtxt import GROUPING, NETWORK, PREPROCESS, STEPS
from bodypose_tools.server.embedded import embedded_server
from tests.greys import (
    GREYS,
    STUB,
    grey_png,
    grey_seen,
    model_processes,
    patient_client,
    ports_of,
    urls_in,
)
from tests.processes import left_by, processes_of, until_ready, wait_for
from tests.skips import isolated

pytestmark = pytest.mark.triton


def test_a_full_server_refuses_at_once_and_serves_who_asks_again(repository, tmp_path):
    small = tmp_path / "small"
    shutil.copytree(repository, small)
    config = small / PREPROCESS / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "64"', 'string_value: "1"'))

    def ask_once(client: PoseClient, grey: int) -> str:
        try:
            return "right" if grey_seen(client, grey) == grey else "wrong"
        except ServerBusy as error:
            return str(error)

    with embedded_server(small) as server:
        for url in (f"grpc://{server.grpc_url}", f"http://{server.http_url}"):
            with PoseClient(url, retries=NO_RETRIES) as client:
                answers = list(map_in_order(lambda grey: ask_once(client, grey), GREYS * 2, 16))
            with PoseClient(url, timeout_s=30, retries=PATIENT) as client:
                patient = list(map_in_order(lambda grey: grey_seen(client, grey), GREYS, 16))

            refusals = [answer for answer in answers if answer != "right"]
            assert all("expected at most 1 images under way" in said for said in refusals)
            assert 0 < len(refusals) < len(answers), "nobody was refused: this showed nothing"
            assert patient == GREYS


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_each_killed_model_comes_back_and_callers_lose_nothing(
    serve, tmp_path, protocol, record_property
):
    process = serve()
    urls = urls_in(until_ready(process))
    answered_at = []

    def kill_in_the_middle(answers, model):
        for number, answer in enumerate(answers):
            if number == 50:
                (pid,) = model_processes(process, model)
                os.kill(pid, signal.SIGKILL)
            answered_at.append(time.monotonic())
            yield answer

    for model in STEPS:
        with patient_client(protocol, urls) as client:
            asked = map_in_order(lambda grey: grey_seen(client, grey), GREYS * 2, 8)
            seen = list(kill_in_the_middle(asked, model))

        assert seen == GREYS * 2
        # A model that held a lock when it was killed takes tritonserver along.
        who = rf"^({model}|tritonserver): "
        assert re.match(rf"{who}its process was killed or crashed", process.stderr.readline())
        assert re.match(rf"{who}ready again after", process.stderr.readline())
    gap = max(b - a for a, b in pairwise(answered_at))
    record_property("recovery_s", gap)
    process.terminate()
    process.wait(30)
    assert left_by(process, tmp_path) == []


def test_a_killed_serve_leaves_no_process_no_memory_and_no_file(serve, tmp_path):
    process = serve()
    until_ready(process)
    assert len(left_by(process, tmp_path)) > 3

    process.kill()
    process.wait()

    wait_for(lambda: left_by(process, tmp_path) == [])


KILLED_CLIENT = """
import sys, numpy as np
from tritonclient import grpc
image = np.random.default_rng(0).bytes(3_000_000)
tensor = grpc.InferInput("image", [4, 1], "BYTES")
tensor.set_data_from_numpy(np.array([[image]] * 4, np.object_))
client = grpc.InferenceServerClient(sys.argv[1])
for _ in range(40):
    client.async_infer("bodypose", [tensor], callback=lambda result, error: None)
print("sent", flush=True)
sys.stdin.read()
"""


def test_a_client_killed_in_the_middle_disturbs_nobody(serve):
    process = serve()
    urls = urls_in(until_ready(process))
    pids = sorted(processes_of(process, STUB))
    with patient_client("grpc", urls) as client:
        for _ in range(3):
            other = subprocess.Popen(
                [sys.executable, "-c", KILLED_CLIENT, urls["gRPC"]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert other.stdout.readline() == b"sent\n"
            other.kill()
            other.communicate()
            assert [grey_seen(client, grey) for grey in GREYS[:40:4]] == GREYS[:40:4]

    assert sorted(processes_of(process, STUB)) == pids


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_restarted_server_costs_a_running_client_nothing(serve, protocol):
    first = serve()
    urls = urls_in(until_ready(first))

    def restart_in_the_middle(greys):
        for number, grey in enumerate(greys):
            if number == 60:
                restarting.start()
            yield grey

    def restart() -> None:
        first.terminate()
        first.wait(15)
        until_ready(serve(*ports_of(urls)))
        restarted.set()

    restarted = threading.Event()
    restarting = threading.Thread(target=restart)
    with patient_client(protocol, urls) as client:
        asked = restart_in_the_middle(GREYS * 4)
        seen = list(map_in_order(lambda grey: grey_seen(client, grey), asked, 4))
    restarting.join()

    assert restarted.is_set()
    assert seen == GREYS * 4


def test_a_restarted_server_changes_no_evaluation(serve, tmp_path):
    """Every image counts once, although the server went away after the tenth."""
    from bodypose_client.evaluation import evaluate_server, open_split

    annotations = coco_file(tmp_path / "images", sorted(set(GREYS)))
    split = open_split(annotations, tmp_path / "images", None)
    servers = [serve()]
    urls = urls_in(until_ready(servers[0]))

    def interrupting(answers):
        for number, answer in enumerate(answers):
            if number == 10:
                os.kill(servers[0].pid, signal.SIGKILL)
                servers[0].wait()
                wait_for(lambda: processes_of(servers[0], "tritonserver") == [])
                servers.append(serve(*ports_of(urls)))
            yield answer

    with patient_client("grpc", urls) as client:
        undisturbed = evaluate_server(client, split, 4)
        disturbed = evaluate_server(client, split, 4, progress=interrupting)

    assert len(servers) == 2
    assert len(undisturbed.results) == len(set(GREYS))
    assert disturbed.results == undisturbed.results
    assert disturbed.metrics == undisturbed.metrics
    assert disturbed.refused == []


def coco_file(folder: Path, greys: list[int]) -> Path:
    import json

    from pose_runtime.skeleton import BODYPOSE_18

    folder.mkdir()
    for grey in greys:
        (folder / f"{grey}.png").write_bytes(grey_png(grey))
    person = {"id": 1, "name": "person", "keypoints": list(BODYPOSE_18.annotated_joints)}
    joints = [value for joint in range(17) for value in (100 + joint, 10 + joint, 2)]
    content = {
        "images": [
            {"id": grey, "file_name": f"{grey}.png", "height": 32, "width": 48} for grey in greys
        ],
        "annotations": [
            {
                "id": grey,
                "image_id": grey,
                "category_id": 1,
                "keypoints": joints,
                "num_keypoints": 17,
                "area": 900,
                "bbox": [1, 1, 30, 30],
                "iscrowd": 0,
            }
            for grey in greys
        ],
        "categories": [person],
    }
    path = folder.parent / "annotations.json"
    path.write_text(json.dumps(content))
    return path


# a repository that is not whole


def test_a_half_copied_repository_is_refused_by_name(serve, repository, tmp_path):
    copy = shutil.copytree(repository, tmp_path / "copy")
    shutil.copyfile(f"{repository}.json", f"{copy}.json")
    (copy / GROUPING / "1" / "pose_runtime" / "poses.py").unlink()

    stdout, stderr = serve(folder=copy).communicate(timeout=20)

    assert stdout == ""
    assert stderr == (
        f"error: {copy}/{GROUPING}/1/pose_runtime/poses.py is missing; run `tools build-repo`\n"
    )


def test_a_truncated_model_is_refused_by_name(serve, repository, tmp_path):
    copy = shutil.copytree(repository, tmp_path / "copy")
    shutil.copyfile(f"{repository}.json", f"{copy}.json")
    model = copy / NETWORK / "1" / "model.onnx"
    model.write_bytes(model.read_bytes()[:500])

    stdout, stderr = serve(folder=copy).communicate(timeout=20)

    assert stdout == ""
    assert stderr == f"error: {model} changed after the build; run `tools build-repo`\n"


def test_the_network_of_another_skeleton_does_not_load(repository, tmp_path, tiny_onnx):
    """Someone copied it from another repository, list of files and all."""
    from dataclasses import replace

    from bodypose_tools.repository.build import build_repository
    from bodypose_tools.server.embedded import embedded_server
    from bodypose_tools.server.settings import ServerError
    from pose_runtime.skeleton import BODYPOSE_18, Skeleton
    from pose_runtime.spec import PipelineSpec

    spec = PipelineSpec.load(repository / NETWORK / "1" / "pipeline.json")
    raw = BODYPOSE_18.to_json()
    fewer = {**raw, "limbs": raw["limbs"][:-1]}
    other = replace(spec, skeleton=Skeleton.from_json(fewer), model_sha256="")
    build_repository(tiny_onnx(tmp_path / "other.onnx", other), tmp_path / "other")
    copy = shutil.copytree(repository, tmp_path / "copy")
    shutil.rmtree(copy / NETWORK / "1")
    shutil.copytree(tmp_path / "other" / NETWORK / "1", copy / NETWORK / "1")

    with (
        pytest.raises(ServerError, match=rf"{NETWORK} does not load: .*expected the outputs of"),
        embedded_server(copy),
    ):
        pass


# what is full


SMALL_SHM = "mount -t tmpfs -o size=120m tmpfs /dev/shm"


def test_a_full_shared_memory_fails_requests_that_need_more_and_no_others(serve):
    from bodypose_client.errors import ClientError

    process = serve(inside=isolated(SMALL_SHM))
    urls = urls_in(until_ready(process))
    shm = Path(f"/proc/{process.pid}/root/dev/shm")
    free = os.statvfs(shm).f_bavail * os.statvfs(shm).f_bsize
    (shm / "filler").write_bytes(bytes(free))
    large = cv2.imencode(".bmp", np.full((1200, 1200, 3), 99, np.uint8))[1].tobytes()
    with patient_client("grpc", urls) as client:
        with pytest.raises(ClientError) as caught:
            client.infer_batch([large] * 8)
        assert len(str(caught.value).splitlines()) == 1
        assert [grey_seen(client, grey) for grey in GREYS[:40:4]] == GREYS[:40:4]

        (shm / "filler").unlink()
        assert len(client.infer_batch([large] * 8)) == 8


def test_a_full_shared_memory_at_the_start_is_one_line(serve, tmp_path):
    tiny = SMALL_SHM.replace("120m", "1m")
    process = serve(inside=isolated(tiny))

    stdout, stderr = process.communicate(timeout=60)

    assert (process.returncode, stdout) == (1, "")
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    assert left_by(process, tmp_path) == []


def test_a_full_disk_leaves_the_old_repository_and_says_so(tmp_path, repository, tiny_onnx):
    disk, model = tmp_path / "disk", repository.parent / "tiny.onnx"
    disk.mkdir()
    script = f"""
        set -e
        mount -t tmpfs -o size=1m tmpfs {disk}
        cd {Path(__file__).parents[2]}
        tools() {{ '{sys.executable}' -c 'from bodypose_tools.cli import main; main()' "$@"; }}
        tools build-repo {model} -o {disk}/repository
        dd if=/dev/zero of={disk}/filler bs=1k 2>/dev/null || true
        tools build-repo {model} -o {disk}/repository && exit 3
        tools build-repo {model} --version 2 -o {disk}/repository && exit 4
        tools check-repo {disk}/repository
        ls -A {disk}
    """
    done = subprocess.run(
        [*isolated("true"), "sh", "-c", script], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert f"{disk}/repository  OK" in done.stdout
    assert done.stdout.split()[-4:] == [
        ".repository.lock",
        "filler",
        "repository",
        "repository.json",
    ]
    complaint = f"error: {disk}/repository: expected to be able to write it, got `No space left"
    assert [line.startswith(complaint) for line in done.stderr.splitlines()] == [True, True]
