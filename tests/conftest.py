"""Small real things that tests of several packages share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_network import write_tiny_onnx


@pytest.fixture(scope="session")
def tiny_onnx() -> Callable[..., Path]:
    """`tests.tiny_network.write_tiny_onnx`."""
    return write_tiny_onnx
