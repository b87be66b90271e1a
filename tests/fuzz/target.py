"""What the fuzzer runs: one input against images or against one model.py, and what must hold.

    python -m tests.fuzz.target REPOSITORY CORPUS_FOLDER [libFuzzer's options]
    python -m tests.fuzz.target REPOSITORY --replay FILE_OR_FOLDER [TIMES]

`tests.fuzz.run` builds both and calls this. The first byte of an input chooses its target. Anything
but the errors that we promise ends the process with a traceback, and libFuzzer keeps the input.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import atheris
import numpy as np

REPLAY = "--replay"


def watched(package: str) -> AbstractContextManager[Any]:
    """Imports inside are instrumented; not for a replay, whose memory is looked at.

    atheris 3.0.0 loses a reference to the result of every comparison: 1 KB for 1000 numbers.
    """
    if REPLAY in sys.argv:
        return contextlib.nullcontext()
    return atheris.instrument_imports(include=[package])


with watched("pose_runtime"):
    from pose_runtime.errors import ImageError
    from pose_runtime.image_headers import image_size
    from pose_runtime.images import decode_image, network_pixels
    from tests.fuzz.limits import LIMITS, SPEC

# These import pose_runtime, too, so they come after it is instrumented.
from google.protobuf import json_format  # noqa: E402

from bodypose_tools.repository.pbtxt import STEPS, read_config  # noqa: E402

STUBS = Path(__file__).parents[1] / "stubs"
_DTYPES = (np.uint8, np.int32, np.float32, np.float64, np.bool_, np.int64)


def fuzz_images(data: bytes) -> None:
    """Decoding and letterboxing: pixels of the size that the header promised, or our error."""
    try:
        pixels, letterbox = network_pixels(data, SPEC.network_hw, LIMITS)
    except ImageError:
        return
    assert pixels.shape == SPEC.pixels.dims
    assert letterbox.image_hw == image_size(data)
    assert decode_image(data, LIMITS).shape[:2] == letterbox.image_hw


class Model:
    """One built model.py, loaded as Triton's stub does, without Triton."""

    def __init__(self, repository: Path, name: str, pb_utils: ModuleType) -> None:
        package = ModuleType(f"{name}_1")
        package.__path__ = [str(repository / name / "1")]
        sys.modules[package.__name__] = package
        with watched(package.__name__):
            module = importlib.import_module(f"{package.__name__}.model")
        config = json_format.MessageToDict(
            read_config(repository / name / "config.pbtxt"), preserving_proto_field_name=True
        )
        self.pb_utils = pb_utils
        self.model = module.TritonPythonModel()
        self.model.initialize(
            {"model_config": json.dumps(config), "model_instance_name": f"{name}_0_0"}
        )
        self.inputs = self.model.door.inputs

    def __call__(self, data: bytes) -> None:
        """Requests made of `data`: each gets a response, and only INTERNAL ones are not allowed."""
        source = atheris.FuzzedDataProvider(data)
        count = source.ConsumeIntInRange(1, 4)
        requests = [self._request(source) for _ in range(count)]
        responses = self.model.execute(requests)
        assert len(responses) == len(requests)
        for response in responses:
            if response.error is None:
                for tensor in response.output_tensors:
                    array = tensor.as_numpy()
                    assert array.dtype == np.uint8 or np.isfinite(array).all()
            elif response.error.code != "INVALID_ARG":
                assert "NaN or infinity" in response.error.message, response.error.message

    def _request(self, source: Any) -> Any:
        tensors = [
            self.pb_utils.Tensor(tensor.name, self._array(source, tensor)) for tensor in self.inputs
        ]
        return self.pb_utils.InferenceRequest(tensors)

    def _array(self, source: Any, tensor: Any) -> np.ndarray:
        """Mostly of the right shape and dtype: what Triton would refuse is less of interest."""
        batch = source.ConsumeIntInRange(0, 3)
        right = source.ConsumeIntInRange(0, 15) > 0
        dims = (
            tensor.dims
            if right
            else tuple(
                source.ConsumeIntInRange(0, 4) for _ in range(source.ConsumeIntInRange(0, 4))
            )
        )
        shape = (batch, *dims)
        count = int(np.prod(shape))
        if tensor.dtype == "BYTES":
            texts = [source.ConsumeBytes(source.ConsumeIntInRange(0, 4000)) for _ in range(count)]
            array = np.empty(count, np.object_)
            array[:] = texts
            return array.reshape(shape)
        dtype = {"UINT8": np.uint8, "FP32": np.float32}[tensor.dtype]
        if not right:
            dtype = _DTYPES[source.ConsumeIntInRange(0, len(_DTYPES) - 1)]
        size = np.dtype(dtype).itemsize
        part = source.ConsumeBytes(source.ConsumeIntInRange(0, min(count * size, 600)))
        part = part[: len(part) // size * size] or bytes(size)
        with np.errstate(all="ignore"):
            return np.resize(np.frombuffer(part, dtype), shape)


def targets(repository: Path) -> list[Callable[[bytes], None]]:
    """Images twice, then the three models: the first byte of an input, modulo their number."""
    sys.path.append(str(STUBS))
    pb_utils = importlib.import_module("triton_python_backend_utils")
    del pb_utils.MetricFamily  # the stub's keeps every figure, which would look like a leak
    models = [Model(repository, name, pb_utils) for name in STEPS]
    return [fuzz_images, fuzz_images, *models]


def main() -> None:
    chosen = targets(Path(sys.argv.pop(1)))

    def run(data: bytes) -> None:
        if data:
            chosen[data[0] % len(chosen)](data[1:])

    if REPLAY in sys.argv:
        replay(run, *sys.argv[sys.argv.index(REPLAY) + 1 :])
    else:
        atheris.Setup(sys.argv, run)
        atheris.Fuzz()


def replay(run: Callable[[bytes], None], place: str, times: str = "1") -> None:
    """Every input of a folder (or one) again and again; prints the memory in MB after each time."""
    path = Path(place)
    inputs = [each.read_bytes() for each in (path.iterdir() if path.is_dir() else [path])]
    for _ in range(int(times)):
        for data in inputs:
            run(data)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sys.stdout.write(f"{pages * resource.getpagesize() / 1e6:.1f}\n")


if __name__ == "__main__":
    main()
