"""Owns the border to Triton's Python backend: many requests in, one response for each out.

A request may hold several images. What is wrong with one request never reaches another: it is
answered with one line, the rest of the batch with its results.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import PoseError, SpecError
from .spec import TensorSpec

Arrays = Sequence[NDArray[Any]]
Work = Callable[..., Arrays]  # inputs in the order of `Door.inputs` -> outputs of `Door.outputs`


@dataclass(frozen=True, slots=True)
class Door:
    """What one Python model takes and gives.

    pb_utils: Triton's module `triton_python_backend_utils`, which exists only in its stub.
    """

    pb_utils: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def check_config(self, model_config: str) -> None:
        """That the config.pbtxt which Triton loaded and pipeline.json describe the same tensors.

        Args:
            model_config: `args["model_config"]` of the model's `initialize`, JSON.
        """
        config = json.loads(model_config)
        for key, tensors in (("input", self.inputs), ("output", self.outputs)):
            wanted = {tensor.name: (tensor.dtype, tensor.dims) for tensor in tensors}
            got = {tensor["name"]: _dtype_and_dims(tensor) for tensor in config[key]}
            if got != wanted:
                raise SpecError(
                    f"{config['name']}: expected the {key}s of pipeline.json, {wanted}, got {got}"
                    " in config.pbtxt; run `tools build-repo`"
                )

    def answer_each(self, requests: Sequence[Any], work: Work) -> list[Any]:
        """Responses of a model that works on one image at a time; `work` sees no batch axis."""
        return [self._answer(request, work) for request in requests]

    def answer_batch(self, requests: Sequence[Any], work: Work) -> list[Any]:
        """Responses of a model that takes the images of all requests at once."""
        responses: list[Any] = [None] * len(requests)
        batches: dict[int, Arrays] = {}
        for index, request in enumerate(requests):
            try:
                batches[index] = self._read(request)
            except Exception as error:  # a border: see errors.py
                responses[index] = self._refuse(error)
        if batches:
            for index, response in self._run_once(batches, work):
                responses[index] = response
        return responses

    def _run_once(self, batches: dict[int, Arrays], work: Work) -> Iterator[tuple[int, Any]]:
        try:
            outputs = work(*map(np.concatenate, zip(*batches.values(), strict=True)))
            cuts = np.cumsum([len(arrays[0]) for arrays in batches.values()])[:-1]
            parts = zip(*(np.split(output, cuts) for output in outputs), strict=True)
            for index, arrays in zip(batches, parts, strict=True):
                yield index, self._respond(arrays)
        except Exception as error:
            for index in batches:
                yield index, self._refuse(error)

    def _answer(self, request: Any, work: Work) -> Any:
        try:
            images = list(zip(*self._read(request), strict=True))
            results = []
            for index, image in enumerate(images):
                with _naming(index, len(images)):
                    results.append(work(*image))
            return self._respond([np.stack(arrays) for arrays in zip(*results, strict=True)])
        except Exception as error:  # a border: see errors.py
            return self._refuse(error)

    def _read(self, request: Any) -> Arrays:
        read = self.pb_utils.get_input_tensor_by_name
        return [tensor.check(read(request, tensor.name).as_numpy()) for tensor in self.inputs]

    def _respond(self, arrays: Arrays) -> Any:
        tensors = [
            self.pb_utils.Tensor(tensor.name, tensor.check(array))
            for tensor, array in zip(self.outputs, arrays, strict=True)
        ]
        return self.pb_utils.InferenceResponse(tensors)

    def _refuse(self, error: Exception) -> Any:
        """A wrong request is its sender's business; anything else is a bug and is logged."""
        code = self.pb_utils.TritonError.INVALID_ARG
        text = str(error)
        if not isinstance(error, PoseError):
            self.pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
            code = self.pb_utils.TritonError.INTERNAL
            text = " ".join(f"{type(error).__name__}: {error}".split())
        return self.pb_utils.InferenceResponse(error=self.pb_utils.TritonError(text, code))


@contextmanager
def _naming(index: int, count: int) -> Iterator[None]:
    """Errors raised inside say which image of a request they are about."""
    try:
        yield
    except PoseError as error:
        if count == 1:
            raise
        raise PoseError(f"batch index {index} (of 0..{count - 1}): {error}") from error


def _dtype_and_dims(tensor: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    dtype = str(tensor["data_type"]).removeprefix("TYPE_")
    return "BYTES" if dtype == "STRING" else dtype, tuple(int(side) for side in tensor["dims"])
