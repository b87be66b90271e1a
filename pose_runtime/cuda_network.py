"""The network on an NVIDIA GPU without TensorRT: compiled by PyTorch, replayed as a CUDA graph.

A GPU sees a few fixed batch sizes only; other batches are padded to the next one. Each size is
compiled and run before the model is ready: a size that a runtime meets for the first time costs
seconds (ONNX Runtime's issue 23006 describes it for cuDNN's plans).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .card_jpeg import CardJpeg, unpack
from .card_pixels import CardPixels
from .decode_process import BoundedDecoder
from .errors import BadImages, PoseError
from .extras import install_line
from .letterbox_in_torch import letterbox
from .nvjpeg import HardwareDecoder, Plane
from .onnx_in_torch import torch_function
from .spec import PipelineSpec

PRECISIONS = ("f16", "f32")
_LEAST_CAPABILITY = (7, 0)  # of the code that PyTorch generates (Triton, the compiler)
_INSTALL = install_line("embedded-cuda")


class CudaError(PoseError):
    """The network cannot run on a GPU here; the message says what is missing."""


def cuda_network(
    model: Path,
    spec: PipelineSpec,
    precision: str,
    batches: Sequence[int],
    instance: int = 0,
    *,
    decodes: bool = False,
) -> Callable[[Any], list[Any]]:
    """The network as a function: pixels (B, H, W, 3) uint8 to peaks and limb scores, for any B.

    The pixels may also be a list of B images. Where the card decodes, they are what `card_jpeg`
    packs, (B, 1) of bytes.

    Args:
        model: ONNX file from `tools export`, float32 or float16.
        spec: its tensors.
        precision: "f16": convolutions in float16, decoding layers in float32; "f32": all of it, and
            no TF32.
        batches: sizes that are compiled; of larger batches the largest is computed at a time.
        instance: number of this process; instances are dealt to the GPUs in turn.
        decodes: whether the card decodes the JPEGs, too.

    Raises:
        CudaError: no PyTorch with CUDA, no GPU or one that is too old, no C compiler, or too little
            memory on the card.
        JpegHardwareError: the card is to decode, and cannot.
    """
    torch = _torch_with_cuda()
    device = f"cuda:{instance % torch.cuda.device_count()}"
    torch.cuda.set_device(device)
    _refuse_old(torch, device)
    torch.backends.cudnn.benchmark = True
    # "f32" means it.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        kind = _Encoded if decodes else _Pixels
        source: _Source = kind(torch, spec, max(batches), device)
        sizes = {
            batch: _compiled(torch, model, source, batch, device, precision)
            for batch in sorted(batches)
        }
    except torch.cuda.OutOfMemoryError as error:
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info())
        raise CudaError(
            f"expected memory for batches of {', '.join(map(str, sorted(batches)))} on {device},"
            f" got {free:.1f} of {total:.1f} GiB free; end what else uses the GPU, or build with"
            " fewer batch sizes"
        ) from error
    largest = max(sizes)

    def run(images: Any) -> list[Any]:
        images = source.read(images)
        outputs = [
            np.empty((len(images), *tensor.dims), np.float32)
            for tensor in (spec.peaks, spec.limb_scores)
        ]
        for first in range(0, len(images), largest):
            part = images[first : first + largest]
            size = min(size for size in sizes if size >= len(part))
            try:
                made = sizes[size](part)
            except BadImages as error:
                raise BadImages({first + at: each for at, each in error.errors.items()}) from error
            for whole, each in zip(outputs, made, strict=True):
                whole[first : first + len(part)] = each[: len(part)]
        return outputs

    return run


class _Source(Protocol):
    """Images of a batch on their way to the card's memory."""

    def read(self, images: Any) -> Sequence[Any]:
        """The images of a call, one by one."""

    def load(self, images: Any, stream: Any) -> None:
        """Put at most a batch into the card's memory, on a stream."""

    def pixels(self, batch: int) -> Any:
        """(B, H, W, 3) uint8: of what was loaded, on the current stream."""


class _Pixels:
    """Pixels come as they are."""

    def __init__(self, torch: Any, spec: PipelineSpec, batch: int, device: str) -> None:
        shape = (batch, *spec.pixels.dims)
        self._memory = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._staged = torch.zeros(shape, dtype=torch.uint8).pin_memory()

    def read(self, images: Any) -> Any:
        return images

    def load(self, images: Any, stream: Any) -> None:
        count, staged = len(images), self._staged.numpy()
        for at, image in enumerate(images):
            staged[at] = image
        self._memory[:count].copy_(self._staged[:count], non_blocking=True)

    def pixels(self, batch: int) -> Any:
        return self._memory[:batch]


class _Encoded:
    """JPEGs are decoded by the card, and become pixels in the network's CUDA graph."""

    def __init__(self, torch: Any, spec: PipelineSpec, batch: int, device: str) -> None:
        self._spec = spec
        self._decoder = HardwareDecoder(torch.version.cuda)
        self._on_cpu = BoundedDecoder(spec.network_hw, spec.limits)
        self._stream: Any = None
        self._card = CardPixels(spec, batch, device, self._decode, self._decode_on_cpu)
        self._letterbox = torch.compile(
            lambda planes, facts: letterbox(planes, facts, spec.network_hw),
            fullgraph=True,
            dynamic=False,
        )

    def _decode(
        self, jpegs: Sequence[CardJpeg], places: Sequence[Sequence[Plane]]
    ) -> Sequence[bool]:
        return self._decoder.decode(jpegs, places, self._stream)

    def _decode_on_cpu(self, jpeg: bytes) -> Any:
        return self._on_cpu.network_pixels(jpeg)[0]

    def read(self, images: Any) -> Sequence[Any]:
        spec = self._spec
        return [unpack(packed, spec.network_hw, spec.limits) for (packed,) in images]

    def load(self, images: Any, stream: Any) -> None:
        self._stream = stream
        self._card.load(images)

    def pixels(self, batch: int) -> Any:
        return self._letterbox(self._card.planes, self._card.facts[:batch])


def _torch_with_cuda() -> Any:
    # Compiled kernels stay between starts: the second one takes a fraction of the first.
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bodypose-triton"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "inductor"))
    try:
        import torch
    except ImportError as error:
        raise CudaError(f"expected PyTorch, got none; run {_INSTALL}") from error
    if torch.version.cuda is None:
        raise CudaError(f"expected PyTorch with CUDA, got {torch.__version__}; run {_INSTALL}")
    if not torch.cuda.is_available():
        raise CudaError(
            f"expected an NVIDIA GPU with a driver for CUDA {torch.version.cuda}, got none; see"
            " whether nvidia-smi lists one, or run `tools build-repo --device cpu`"
        )
    if shutil.which(os.environ.get("CC", "cc")) is None and shutil.which("gcc") is None:
        raise CudaError("expected a C compiler for PyTorch's kernels, got none; install gcc")
    return torch


def _refuse_old(torch: Any, device: str) -> None:
    capability = torch.cuda.get_device_capability(device)
    if capability < _LEAST_CAPABILITY:
        raise CudaError(
            f"{torch.cuda.get_device_name(device)}: expected compute capability"
            f" {'.'.join(map(str, _LEAST_CAPABILITY))} or newer, got"
            f" {'.'.join(map(str, capability))}; run `tools build-repo --device cpu`"
        )


def _compiled(
    torch: Any, model: Path, source: _Source, batch: int, device: str, precision: str
) -> Callable[[Any], list[Any]]:
    """One batch size: at most `batch` images in, as many rows out as the batch has."""
    from torch.fx.experimental.proxy_tensor import make_fx

    stream = torch.cuda.Stream(device)
    with torch.inference_mode(), torch.cuda.stream(stream):
        pixels = source.pixels(batch)
        # Flat, the graph is followed by the compiler in a fraction of the time.
        flat = make_fx(torch_function(model, batch, device, precision == "f16"))(pixels)
        function = torch.compile(flat, fullgraph=True, dynamic=False)
        for _ in range(3):  # compiles, and lets cuDNN choose, before the graph is captured
            function(source.pixels(batch))
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            made = function(source.pixels(batch))
        results = [torch.empty(each.shape, dtype=torch.float32).pin_memory() for each in made]
    arrays = [each.numpy() for each in results]

    def run(images: Any) -> list[Any]:
        with torch.inference_mode(), torch.cuda.stream(stream):
            source.load(images, stream)
            graph.replay()
            for result, each in zip(results, made, strict=True):
                result.copy_(each, non_blocking=True)
            stream.synchronize()
        return arrays

    run.kept = function  # type: ignore[attr-defined]  # the graph reads its weights by address
    return run
