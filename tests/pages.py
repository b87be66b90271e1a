"""Blocks of a page under docs/, and a desk where they run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300
# The commands, with other addresses as defaults; `demo` gets its Ctrl-C by itself.
_COMMAND = """#!{python}
import os, signal, sys, threading
def start():
    from bodypose_client.wire.address import DEFAULT_URLS, Protocol
    DEFAULT_URLS[Protocol.GRPC] = "grpc://{grpc}"
    DEFAULT_URLS[Protocol.HTTP] = "http://{http}"
    from {package}.cli import main
    if sys.argv[1] == "demo":
        import bodypose_client.demo.server
        sys.argv += ["--port", "0"]
        threading.Timer(4, os.kill, (os.getpid(), signal.SIGINT)).start()
    if sys.argv[1] == "serve":
        sys.argv += ["--grpc-port", "{grpc}".partition(":")[2], "--http-port",
                     "{http}".partition(":")[2], "--metrics-port", "0", "--drain-seconds", "0"]
    main()
if __name__ == "__main__":  # training starts processes that import this file
    start()
"""
_PACKAGES = {"pose-client": "bodypose_client", "tools": "bodypose_tools"}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.M | re.S)


@dataclass(frozen=True)
class Desk:
    """A folder in which a page is followed, with its servers at other addresses.

    grpc, http: host:port instead of 127.0.0.1:8001 and 127.0.0.1:8000.
    """

    folder: Path
    grpc: str
    http: str

    def __post_init__(self) -> None:
        bin = self.folder / "bin"
        bin.mkdir()
        for name, package in _PACKAGES.items():
            text = _COMMAND.format(
                python=sys.executable, grpc=self.grpc, http=self.http, package=package
            )
            (bin / name).write_text(text)
            (bin / name).chmod(0o755)

    def run(self, language: str, body: str, **more: str) -> str:
        """What a block prints; it has to succeed. `more` goes into the environment."""
        done = subprocess.run(
            [*_programs()[language], self._here(body)],
            cwd=self.folder,
            env=self._environment(more),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout

    def start(self, body: str) -> subprocess.Popen[str]:
        """A block of shell that does not end by itself; its process group is its own."""
        return subprocess.Popen(
            [*_programs()["sh"], self._here(body)],
            cwd=self.folder,
            env=self._environment({}),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _here(self, body: str) -> str:
        for host in ("127.0.0.1", "localhost"):
            body = body.replace(f"{host}:8001", self.grpc).replace(f"{host}:8000", self.http)
        return body.replace("PoseClient()", f'PoseClient("grpc://{self.grpc}")')

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        python = str(Path(sys.executable).parent)
        path = os.pathsep.join((str(self.folder / "bin"), python, os.environ["PATH"]))
        return {**os.environ, "PATH": path, **more}


def _programs() -> dict[str, list[str]]:
    return {
        "python": [sys.executable, "-c"],
        "sh": ["bash", "-euo", "pipefail", "-c"],
        "js": ["node", "--input-type=module", "--eval"],
    }
