"""What the tests of several rooms of `tools` share."""

import importlib

import pytest


@pytest.fixture
def without_nvidia(monkeypatch):
    """A machine that has none of NVIDIA's packages."""
    known = importlib.import_module

    def missing(name: str, package: str | None = None) -> object:
        if name.partition(".")[0] in ("tensorrt", "tensorrt_rtx", "cuda"):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return known(name, package)

    monkeypatch.setattr(importlib, "import_module", missing)
