"""Small real things that tests of several packages share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.tiny_network import write_tiny_onnx

pytest_plugins = ["tests.drawn", "tests.serving", "tests.skips"]

# No file in the checkout, which may be of another user.
hypothesis.settings.register_profile("tests", database=None)
hypothesis.settings.load_profile("tests")

TESTS = Path(__file__).parent
LONG_ROOMS = ("long", "timed", "fuzz")
# Of a minute and more, the longest first: a long file that begins last leaves a worker idle.
LONGEST = (
    "fuzz/test_commands.py",
    "long/test_first_hour.py",
    "long/test_shipped_ap.py",
    "long/test_adopted_networks.py",
    "long/test_giving_up.py",
    "long/test_gateways.py",
    "long/test_kills.py",
    "long/test_full_disk.py",
    "long/test_client_leak.py",
    "long/test_bulk.py",
    "integration/test_faults.py",
    "integration/test_stopping.py",
    "integration/test_gateway_attacks.py",
)
SLOW_S = 600  # a busy machine's time for what takes a minute on a quiet one


@pytest.fixture(scope="session")
def tiny_onnx() -> Callable[..., Path]:
    """`tests.tiny_network.write_tiny_onnx`."""
    return write_tiny_onnx


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C works here and in processes started meanwhile, also where a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that the workers end together; slow tests get their time."""
    slow = [item for item in items if item.get_closest_marker("slow") or _is_long(item.path)]
    for item in slow:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_S))
    first = {item.path for item in slow}
    ranks = {TESTS / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (ranks.get(item.path, len(ranks)), item.path not in first))


def _is_long(path: Path) -> bool:
    return path.relative_to(TESTS).parts[0] in LONG_ROOMS
