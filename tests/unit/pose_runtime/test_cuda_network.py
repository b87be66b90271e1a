"""What a machine lacks for the network on a GPU is one line that says what to install."""

import sys
from types import SimpleNamespace

import pytest

from pose_runtime.cuda_network import CudaError, cuda_network
from pose_runtime.spec import PipelineSpec


def fake_torch(cuda: str | None = "13.0", available: bool = True, capability=(9, 0)):
    """As much of PyTorch as is asked before anything runs."""
    return SimpleNamespace(
        __version__="2.13.0",
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: available,
            device_count=lambda: 1,
            set_device=lambda device: None,
            get_device_capability=lambda device: capability,
            get_device_name=lambda device: "Old GPU",
        ),
    )


@pytest.mark.parametrize(
    ("torch", "said"),
    [
        (None, "expected PyTorch, got none; run `pip install"),
        (fake_torch(cuda=None), "expected PyTorch with CUDA, got 2.13.0"),
        (fake_torch(available=False), "expected an NVIDIA GPU with a driver for CUDA 13.0"),
        (fake_torch(capability=(6, 1)), "Old GPU: expected compute capability 7.0 or newer"),
    ],
)
def test_what_is_missing_is_one_line(monkeypatch, tmp_path, torch, said):
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("CC", sys.executable)  # a compiler is there, as far as is looked

    with pytest.raises(CudaError, match=said) as error:
        cuda_network(tmp_path / "none.onnx", PipelineSpec(), "f16", [1])

    assert "\n" not in str(error.value)


def test_a_missing_compiler_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)

    with pytest.raises(CudaError, match="expected a C compiler"):
        cuda_network(tmp_path / "none.onnx", PipelineSpec(), "f16", [1])
