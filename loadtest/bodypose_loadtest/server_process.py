"""The server that a load test starts for itself: `tools serve`, in a process of its own.

The generator and the server share no interpreter, and `loadtest` does not import `tools`.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bodypose_client.wire.address import DEFAULT_MODEL, Protocol

from .errors import NoServer
from .processes import ENDS_WITH_US, wait_or_kill

_TOOLS = (sys.executable, "-m", "bodypose_tools.cli")
_ANY_PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
_AT_ONCE = ("--drain-seconds", "0")  # when it stops: nobody else asks it
_STOP_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that is ready."""

    pid: int
    http: str  # host:port
    grpc: str
    metrics_url: str

    def url(self, protocol: Protocol) -> str:
        netloc = self.grpc if protocol is Protocol.GRPC else self.http
        return f"{protocol}://{netloc}/{DEFAULT_MODEL}"


@contextlib.contextmanager
def running_server(repository: Path | None, model: Path | None = None) -> Iterator[RunningServer]:
    """`tools serve` on free loopback ports; stopped when the block ends.

    Args:
        repository: from `tools build-repo`; None builds one for this run alone.
        model: what to build it from; None is the shipped model.

    Raises:
        NoServer: with the words of `tools`.
    """
    with tempfile.TemporaryDirectory(prefix="pose-loadtest-") as folder:
        if repository is None:
            repository = Path(folder) / "model_repository"
            _build(repository, model)
        process = subprocess.Popen(
            [*ENDS_WITH_US, *_TOOLS, "serve", str(repository), *_ANY_PORTS, *_AT_ONCE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=(Path(folder) / "stderr").open("w"),
            text=True,
            start_new_session=True,  # Ctrl-C is ours to handle: the report comes first
        )
        try:
            yield _wait_until_ready(process, Path(folder) / "stderr")
        finally:
            _stop(process)


def _build(repository: Path, model: Path | None) -> None:
    command = [*_TOOLS, "build-repo", *([str(model)] if model else []), "-o", str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoServer(_last_line(done.stderr))


def _wait_until_ready(process: subprocess.Popen[str], stderr: Path) -> RunningServer:
    assert process.stdout is not None
    said: dict[str, str] = {}
    for line in process.stdout:
        if line.startswith("ready"):
            return RunningServer(
                process.pid,
                said["HTTP"].removeprefix("http://"),
                said["gRPC"],
                said["metrics"],
            )
        name, _, value = line.partition(" ")
        said[name] = value.strip()
    process.wait()
    raise NoServer(_last_line(stderr.read_text()))


def _last_line(text: str) -> str:
    lines = text.strip().splitlines() or ["it said nothing"]
    return "tools: expected a ready server, got " + lines[-1].removeprefix("error: ")


def _stop(process: subprocess.Popen[str]) -> None:
    """`tools serve` ends tritonserver and its models itself, so it is asked, and waited for."""
    process.terminate()
    wait_or_kill(process, _STOP_TIMEOUT_S)
