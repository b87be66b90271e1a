"""Owns the border to Triton's Python backend: many requests in, one response for each out.

A request may hold several images. What is wrong with one request never reaches another: it is
answered with one line, the rest of the batch with its results.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError, ImageError, PoseError, ServerFull, SpecError
from .metrics import StageMetrics
from .spec import TensorSpec

Arrays = Sequence[NDArray[Any]]
Counting = Callable[[int], AbstractContextManager[object]]
Work = Callable[..., Arrays]  # inputs in the order of `Door.inputs` -> outputs of `Door.outputs`


@dataclass(frozen=True, slots=True)
class Door:
    """What one Python model takes and gives.

    pb_utils: Triton's module `triton_python_backend_utils`, which exists only in its stub.
    people: the output that says how many people an image has, if there is one.
    counting: around the work on a request of so many images; may refuse them.
    """

    pb_utils: Any
    metrics: StageMetrics
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    people: TensorSpec | None = None
    counting: Counting = nullcontext

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
        # Triton's warm-ups go to one model only.
        counting: Counting = nullcontext if self.metrics.is_warming_up else self.counting
        with self.metrics.execution():
            return [self._answer(request, work, counting) for request in requests]

    def answer_batch(self, requests: Sequence[Any], work: Work) -> list[Any]:
        """Responses of a model that takes the images of all requests at once.

        When that fails, each request is tried alone, so that one cannot fail the others.
        """
        with self.metrics.execution():
            responses: list[Any] = [None] * len(requests)
            batches: dict[int, Arrays] = {}
            for index, request in enumerate(requests):
                try:
                    batches[index] = self._read(request)
                except Exception as error:  # a border: see errors.py
                    responses[index] = self._refuse(error)
            for index, response in self._run_once(batches, work).items():
                responses[index] = response
            return responses

    def _run_once(self, batches: dict[int, Arrays], work: Work) -> dict[int, Any]:
        if not batches:
            return {}
        try:
            outputs = work(*map(joined, zip(*batches.values(), strict=True)))
            cuts = np.cumsum([len(arrays[0]) for arrays in batches.values()])[:-1]
            parts = zip(*(np.split(output, cuts) for output in outputs), strict=True)
            tensors = [self._checked(arrays) for arrays in parts]
        except Exception as error:  # a border, as above
            if len(batches) == 1:
                return dict.fromkeys(batches, self._refuse(error))
            alone = ({index: arrays} for index, arrays in batches.items())
            return {
                index: response
                for batch in alone
                for index, response in self._run_once(batch, work).items()
            }
        return {
            index: self._respond(arrays) for index, arrays in zip(batches, tensors, strict=True)
        }

    def _answer(self, request: Any, work: Work, counting: Counting) -> Any:
        try:
            images = list(zip(*self._read(request), strict=True))
            results = []
            with counting(len(images)):
                for index, image in enumerate(images):
                    with _naming(index, len(images)):
                        results.append(work(*image))
            outputs = [_stacked(arrays) for arrays in zip(*results, strict=True)]
            return self._respond(self._checked(outputs))
        except Exception as error:  # a border: see errors.py
            return self._refuse(error)

    def _read(self, request: Any) -> Arrays:
        read = self.pb_utils.get_input_tensor_by_name
        arrays = [tensor.check(read(request, tensor.name).as_numpy()) for tensor in self.inputs]
        counts = [len(array) for array in arrays]
        if counts[0] < 1 or len(set(counts)) > 1:
            names = ", ".join(tensor.name for tensor in self.inputs)
            raise ContractError(names, "one number of images, at least 1", str(counts))
        return arrays

    def _checked(self, arrays: Arrays) -> Arrays:
        return [tensor.check(array) for tensor, array in zip(self.outputs, arrays, strict=True)]

    def _respond(self, arrays: Arrays) -> Any:
        tensors = []
        for tensor, array in zip(self.outputs, arrays, strict=True):
            tensors.append(self.pb_utils.Tensor(tensor.name, array))
            if tensor == self.people:
                self.metrics.count_people(array)
        return self.pb_utils.InferenceResponse(tensors)

    def _refuse(self, error: Exception) -> Any:
        """A wrong request is its sender's business; anything else is ours and is logged."""
        code = self.pb_utils.TritonError.INVALID_ARG
        text = str(error)
        if isinstance(error, ServerFull):
            code = self.pb_utils.TritonError.UNAVAILABLE
        elif not isinstance(error, ContractError | ImageError):
            code = self.pb_utils.TritonError.INTERNAL
            if isinstance(error, PoseError):
                self.pb_utils.Logger.log_error(text)
            else:
                self.pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
                text = " ".join(f"{type(error).__name__}: {error}".split())
        self.metrics.count_refused(error.reason if isinstance(error, PoseError) else "internal")
        return self.pb_utils.InferenceResponse(error=self.pb_utils.TritonError(text, code))


def parameter(model_config: str, name: str) -> str:
    """One of the `parameters` of the config.pbtxt that Triton loaded; KeyError when it lacks.

    Args:
        model_config: `args["model_config"]` of a model's `initialize`, JSON.
        name: of the parameter.
    """
    return str(json.loads(model_config)["parameters"][name]["string_value"])


def joined(arrays: Arrays) -> NDArray[Any]:
    """`np.concatenate`, without a copy where there is nothing to join."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _stacked(arrays: Arrays) -> NDArray[Any]:
    """`np.stack`, without a copy where there is nothing to stack."""
    return arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)


@contextmanager
def _naming(index: int, count: int) -> Iterator[None]:
    """Errors raised inside say which image of a request they are about."""
    try:
        yield
    except PoseError as error:
        if count > 1:
            error.args = (f"batch index {index} (of 0..{count - 1}): {error}",)
        raise


def _dtype_and_dims(tensor: dict[str, Any]) -> tuple[str, tuple[int, ...]]:
    dtype = str(tensor["data_type"]).removeprefix("TYPE_")
    return "BYTES" if dtype == "STRING" else dtype, tuple(int(side) for side in tensor["dims"])
