"""What did not run: the reasons at the end of a run, and `--no-needless-skip` for CI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from bodypose_tools.runtimes.cpu import int8_warning
from tests.coco import COCO
from tests.containers import PYTHON, can_contain, found_wheels
from tests.fleet_tools import found_helm, found_kserve
from tests.pythons import NEWEST, OLDEST, python_of
from tests.releases import has_history


def can_mount() -> bool:
    """Whether this user may make mounts in a namespace of their own."""
    try:
        subprocess.run(["unshare", "-m", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def isolated(script: str) -> list[str]:
    """A command prefix that runs `script` with mounts of its own, then the command."""
    if not can_mount():
        pytest.skip("needs the right to make mounts: run as root, with `unshare`")
    return ["unshare", "-m", "sh", "-c", f'{script} && exec "$@"', "sh"]


def _no(*programs: str) -> Callable[[], bool]:
    return lambda: not all(map(shutil.which, programs))


# What a machine may lack -> whether this one does. Packages of `make test` are always there.
LACKS: dict[str, Callable[[], bool]] = {
    "needs real COCO images": lambda: not COCO.is_dir(),
    "needs a browser": _no("chromium", "chromedriver"),
    "needs the right to make mounts": lambda: not can_mount(),
    "needs the `openssl` command": _no("openssl"),
    "needs Python": lambda: not all(map(python_of, (OLDEST, NEWEST))),
    "needs curl": _no("curl"),
    "needs node": _no("node"),
    "needs promtool": _no("promtool"),
    "needs Prometheus": _no("prometheus"),
    "needs Helm": lambda: found_helm() is None,
    "needs KServe": lambda: found_kserve() is None,
    "needs what makes images": _no("buildah", "skopeo", "umoci", "docker-registry"),
    "needs a container engine": lambda: not can_contain(),
    "needs the Python of Triton's image": lambda: python_of(PYTHON) is None,
    "needs the packages of Triton's image": lambda: found_wheels() is None,
    "needs systemd-analyze": _no("systemd-analyze"),
    "needs HAProxy": lambda: not Path("/usr/sbin/haproxy").is_file(),  # often not in PATH
    "needs the history of git": lambda: not has_history(),
    "no MoveNet archive": lambda: "MOVENET_ARCHIVE" not in os.environ,
    "no EfficientNet wheel": lambda: "EFFICIENTNET_WHEEL" not in os.environ,
    "without VNNI": lambda: int8_warning() is not None,
    # What `make test-long` does not install.
    "needs PyTorch": lambda: find_spec("torch") is None,
    "[mutants]": lambda: find_spec("cosmic_ray") is None,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-needless-skip",
        action="store_true",
        help="Fail when a test was skipped that this machine could have run.",
    )


def needless(reason: str) -> bool:
    """Whether this machine has what a test was skipped for."""
    return not any(found in reason and lacks() for found, lacks in LACKS.items())


def _reasons(terminal: pytest.TerminalReporter) -> Counter[str]:
    skipped = terminal.stats.get("skipped", [])
    return Counter(re.sub(r"^Skipped: ", "", report.longrepr[2]) for report in skipped)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = _reasons(terminalreporter)
    if reasons:
        terminalreporter.section("skipped, by reason")
    for reason, count in sorted(reasons.items()):
        could = "; this machine could have run it" if needless(reason) else ""
        terminalreporter.write_line(f"{count:4d}  {reason}{could}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or not session.config.getoption("--no-needless-skip"):
        return
    if session.exitstatus == pytest.ExitCode.OK and any(map(needless, _reasons(terminal))):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
