"""The server's image on a real Triton: build, serve, evaluate ten images, kill, drain; one record.

    pip install "bodypose-triton[tools,evaluate]==@{version}"
    python prove.py ../model_repository -a person_keypoints_val.json -i val -o container.json

Needs Docker (or `--docker podman`), this folder of `tools deploy-files`, and its repository. Send
the record to the project: it belongs under docs/results. `--dry-run` says what would be run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bodypose_client.evaluation import Split, evaluate_server, open_split
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import NO_RETRIES
from bodypose_tools.results.record import Measurement
from pose_runtime.errors import PoseError

SCHEMA = "bodypose-container/1"
TAG = "@{server_image}:@{tag}"
NAME = "bodypose-prove"
IMAGES = 10
CALLERS = 4
# What nobody but the server itself may reach.
CLOSED = ("/v2/repository/index", "/v2/systemsharedmemory/status", "/v2/logging")


class ProveError(PoseError):
    """The container does not do what it should."""


class Docker:
    """One container of the image, by the command line of Docker or Podman."""

    def __init__(self, program: str, dry: bool) -> None:
        self.program, self.dry = shlex.split(program), dry

    def ask(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `docker WORDS`.

        Raises:
            ProveError: it fails, and `check` is True.
        """
        command = [*self.program, *words]
        if self.dry:
            print(shlex.join(command))
            return subprocess.CompletedProcess(command, 0, "", "")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise ProveError(f"{shlex.join(words[:2])}: expected exit code 0, got {last}")
        return done

    def alive(self) -> bool:
        return self.ask("exec", NAME, "bodypose-alive", check=False).returncode == 0


def ask_server(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of one answer; 0: there is none."""
    server = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        server.request(method, path)
        answer = server.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        server.close()


def get(port: int, path: str, method: str = "GET") -> int:
    """The status of one answer."""
    return ask_server(port, path, method)[0]


def seconds_until(condition: Callable[[], bool], what: str, limit_s: float) -> float:
    """Seconds until it holds.

    Raises:
        ProveError: it does not within the limit.
    """
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > limit_s:
            raise ProveError(f"{what}: expected within {limit_s:.0f} s, got nothing")
        time.sleep(0.2)
    return round(time.monotonic() - begun, 1)


def serve(docker: Docker, options: argparse.Namespace) -> dict[str, Any]:
    """Start the container as the chart does, and wait for it."""
    docker.ask("rm", "--force", NAME, check=False)
    docker.ask(
        *("run", "--detach", "--name", NAME, "--read-only", "--tmpfs", "@{temporary}"),
        *("--user", "@{uid}:@{uid}", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges:true", "--shm-size", "@{shared_memory_bytes}"),
        *("--publish", f"127.0.0.1:{options.http_port}:" + "@{http_port}"),
        *("--volume", f"{options.repository.resolve()}:" + "@{models_mount}/models:ro"),
        *(("--gpus", options.gpus) if options.gpus else ()),
        TAG,
    )
    if docker.dry:
        return {}
    ready_s = seconds_until(
        lambda: get(options.http_port, "/v2/health/ready") == 200, "ready", float("@{start_s}")
    )
    triton = json.loads(ask_server(options.http_port, "/v2")[1])["version"]
    closed = {path: get(options.http_port, path, "POST") for path in CLOSED}
    return {
        "ready_s": ready_s,
        "triton": triton,
        "alive": docker.alive(),
        "closed_apis": closed,
    }


def evaluate(split: Split, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The images through the container; the numbers and the model that it serves."""
    with PoseClient(f"http://127.0.0.1:{options.http_port}", timeout_s=120) as client:
        found = evaluate_server(client, split, 1).to_json()
        model = {"name": client.model.name, "sha256": client.model.sha256}
    return {key: found[key] for key in ("images", "people", "metrics")}, model


def kill(docker: Docker, options: argparse.Namespace) -> dict[str, Any]:
    """Kill the process of preprocessing, as the kernel does when memory is short."""
    found = docker.ask(
        "exec", NAME, "sh", "-c", "grep -l /@{preprocess}/ /proc/[0-9]*/cmdline; true"
    )
    pids = [line.split("/")[2] for line in found.stdout.splitlines()]
    # Also of the grep itself, which is gone. Not every image has the program `kill`.
    docker.ask("exec", NAME, "sh", "-c", shlex.join(["kill", "-9", *pids]), check=False)
    dead_s = seconds_until(lambda: not docker.alive(), "a dead model noticed", 60)
    ready = get(options.http_port, "/v2/health/ready") == 200
    docker.ask("restart", NAME)  # as the orchestrator does
    again_s = seconds_until(docker.alive, "alive again", float("@{start_s}"))
    return {"noticed_s": dead_s, "ready_with_a_dead_model": ready, "alive_again_s": again_s}


def drain(docker: Docker, split: Split, options: argparse.Namespace) -> dict[str, Any]:
    """Stop the container under load: what was sent before must be answered.

    Nothing is sent afterwards, as after the drain of a balancer. Triton waits its exit timeout for
    connections that stay open, as a gateway's do, and then ends with exit code 1.
    """
    image = split.images[0].path.read_bytes()
    outcomes: list[bool] = []
    end = threading.Event()

    def go_on() -> None:
        while not end.is_set():
            try:
                client.infer(image)
                outcomes.append(True)
            except PoseError:
                outcomes.append(False)

    address = f"http://127.0.0.1:{options.http_port}"
    with PoseClient(address, timeout_s=60, retries=NO_RETRIES) as client:
        callers = [threading.Thread(target=go_on) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        time.sleep(3)
        end.set()
        begun = time.monotonic()
        docker.ask("stop", "--time", "@{grace_s}", NAME)
        took_s = round(time.monotonic() - begun, 1)
        for caller in callers:
            caller.join()
    code = docker.ask("inspect", "--format", "{{.State.ExitCode}}", NAME).stdout.strip()
    return {
        "answered": outcomes.count(True),
        "lost": outcomes.count(False),
        "seconds": took_s,
        "exit_code": int(code),
    }


def verdicts(steps: dict[str, Any]) -> dict[str, bool]:
    """What must hold."""
    served, killed, drained = steps["serve"], steps["kill"], steps["drain"]
    return {
        "alive": served["alive"],
        "other APIs are closed": all(400 <= code < 500 for code in served["closed_apis"].values()),
        "ten images are answered": steps["evaluate"]["images"] == IMAGES,
        "a dead model is noticed": killed["noticed_s"] < 60,
        "nothing accepted is lost": drained["lost"] == 0 and drained["answered"] > 0,
        "ends within its grace": drained["seconds"] < float("@{grace_s}")
        and drained["exit_code"] in (0, 1),
    }


def run(options: argparse.Namespace) -> bool:
    """All steps, then the record; whether everything held."""
    measurement = Measurement()
    docker = Docker(options.docker, options.dry_run)
    folder = str(Path(__file__).parent)
    begun = time.monotonic()
    docker.ask("build", "--tag", TAG, "--build-arg", f"BASE={options.base}", folder)
    steps: dict[str, Any] = {"build": {"seconds": round(time.monotonic() - begun, 1)}}
    engine = docker.ask("--version").stdout.strip()
    image_id = docker.ask("image", "inspect", "--format", "{{.Id}}", TAG).stdout.strip()
    try:
        steps["serve"] = serve(docker, options)
        if options.dry_run:
            return True
        split = open_split(options.annotations, options.images, IMAGES)
        steps["evaluate"], model = evaluate(split, options)
        steps["kill"] = kill(docker, options)
        steps["drain"] = drain(docker, split, options)
    except PoseError:
        sys.stderr.write(docker.ask("logs", "--tail", "40", NAME, check=False).stderr)
        raise
    finally:
        docker.ask("rm", "--force", NAME, check=False)
    held = verdicts(steps)
    measured = {
        "schema": SCHEMA,
        "engine": engine,
        "image": {"tag": TAG, "id": image_id, "base": options.base, "gpus": options.gpus},
        "steps": steps,
        "held": held,
    }
    data = (options.annotations, *(each.path for each in split.images))
    measurement.write(options.output, measured, models=[model], data=data)
    for what, did in held.items():
        print(f"{'held' if did else 'BROKEN'}  {what}")
    print(options.output)
    return all(held.values())


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path, help="folder of `tools build-repo`")
    parser.add_argument("-a", "--annotations", type=Path, required=True, help="COCO keypoints file")
    parser.add_argument("-i", "--images", type=Path, required=True, help="folder of its images")
    parser.add_argument("-o", "--output", type=Path, default=Path("container.json"), help="record")
    parser.add_argument(
        "--base", default="@{base_image}", help="image of Triton, such as one by its digest"
    )
    parser.add_argument("--gpus", default="", help="as of `docker run`, such as all")
    parser.add_argument("--docker", default="docker", help="the program, such as `sudo docker`")
    parser.add_argument("--http-port", type=int, default=18000, help="free port on this host")
    parser.add_argument("--dry-run", action="store_true", help="say the commands and run none")
    return parser.parse_args(words)


def main() -> None:
    try:
        sys.exit(0 if run(parse()) else 1)
    except PoseError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
