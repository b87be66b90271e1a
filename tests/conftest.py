"""Small real things that tests of several packages share, and quiet for those that need it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.tiny_network import write_tiny_onnx


@pytest.fixture(scope="session")
def tiny_onnx() -> Callable[..., Path]:
    """`tests.tiny_network.write_tiny_onnx`."""
    return write_tiny_onnx


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """With several workers, no other test runs beside one that is marked `alone`."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    alone = item.get_closest_marker("alone") is not None
    with ExitStack() as held:
        with _locked("turnstile", fcntl.LOCK_EX):  # while one waits here, no other begins
            held.enter_context(_locked("room", fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        return (yield)


@contextmanager
def _locked(name: str, how: int) -> Iterator[None]:
    path = Path(tempfile.gettempdir()) / f"bodypose-tests-{os.getuid()}-{name}.lock"
    with path.open("w") as file:
        fcntl.flock(file, how)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # a forked process may still have the file open
