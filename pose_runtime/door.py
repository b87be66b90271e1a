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

from .errors import (
    BadImages,
    Cancelled,
    ContractError,
    ImageError,
    PoseError,
    ServerFull,
    ServerStopping,
    SpecError,
)
from .metrics import StageMetrics
from .passage import EVERYONE, Passage, Visit
from .spec import TensorSpec

Arrays = Sequence[NDArray[Any]]
Work = Callable[..., Arrays]  # inputs in the order of `Door.inputs` -> outputs of `Door.outputs`


@dataclass(frozen=True, slots=True)
class Door:
    """What one Python model takes and gives.

    pb_utils: Triton's module `triton_python_backend_utils`, which exists only in its stub.
    people: the output that says how many people an image has, if there is one.
    passage: what the step does with the places of a request's images.
    place: the output that carries them on, of the step that takes them.
    """

    pb_utils: Any
    metrics: StageMetrics
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    people: TensorSpec | None = None
    passage: Passage = EVERYONE
    place: TensorSpec | None = None

    def check_config(self, model_config: str) -> None:
        """That the config.pbtxt which Triton loaded and pipeline.json describe the same tensors.

        Args:
            model_config: `args["model_config"]` of the model's `initialize`, JSON.
        """
        config = json.loads(model_config)
        outputs = (*self.outputs, self.place) if self.place else self.outputs
        for key, tensors in (("input", self.inputs), ("output", outputs)):
            wanted = {tensor.name: (tensor.dtype, tensor.dims) for tensor in tensors}
            got = {
                tensor["name"]: _dtype_and_dims(tensor)
                for tensor in config[key]
                if not tensor.get("optional")
            }
            if got != wanted:
                raise SpecError(
                    f"{config['name']}: expected the {key}s of pipeline.json, {wanted}, got {got}"
                    " in config.pbtxt; run `tools build-repo`"
                )

    def answer_each(self, requests: Sequence[Any], work: Work) -> list[Any]:
        """Responses of a model that works on one image at a time; `work` sees no batch axis."""
        with self.metrics.execution():
            return [self._answer(request, work) for request in requests]

    def answer_batch(self, requests: Sequence[Any], work: Work) -> list[Any]:
        """Responses of a model that takes the images of all requests at once.

        For each input, `work` gets the requests' arrays in a list: what copies them to where it
        needs them need not join them first.

        When that fails, each request is tried alone, so that one cannot fail the others.
        """
        with self.metrics.execution():
            responses: list[Any] = [None] * len(requests)
            visits = [self._arrive(request) for request in requests]
            batches: dict[int, Arrays] = {}
            for index, (request, visit) in enumerate(zip(requests, visits, strict=True)):
                try:
                    visit.check_wanted(request)
                    batches[index] = self._read(request)
                except Exception as error:  # a border: see errors.py
                    responses[index] = self._refuse(visit, error)
            for index, response in self._run_once(batches, visits, work).items():
                responses[index] = response
            return responses

    def _run_once(
        self, batches: dict[int, Arrays], visits: Sequence[Visit], work: Work
    ) -> dict[int, Any]:
        if not batches:
            return {}
        try:
            outputs = work(*map(list, zip(*batches.values(), strict=True)))
            cuts = np.cumsum([len(arrays[0]) for arrays in batches.values()])[:-1]
            parts = zip(*(np.split(output, cuts) for output in outputs), strict=True)
            tensors = [self._checked(arrays) for arrays in parts]
        except BadImages as error:
            good, responses = dict(batches), {}
            for index, first in error.by_request([len(arrays[0]) for arrays in batches.values()]):
                number = list(batches)[index]
                responses[number] = self._refuse(visits[number], first)
                del good[number]
            return responses | self._run_once(good, visits, work)
        except Exception as error:  # a border, as above
            if len(batches) == 1:
                return {index: self._refuse(visits[index], error) for index in batches}
            alone = ({index: arrays} for index, arrays in batches.items())
            return {
                index: response
                for batch in alone
                for index, response in self._run_once(batch, visits, work).items()
            }
        return {
            index: self._respond(visits[index], arrays)
            for index, arrays in zip(batches, tensors, strict=True)
        }

    def _answer(self, request: Any, work: Work) -> Any:
        visit = self._arrive(request)
        try:
            visit.check_wanted(request)
            images = list(zip(*self._read(request), strict=True))
            self.passage.admit(visit, len(images))
            results = []
            for index, image in enumerate(images):
                with _naming(index, len(images)):
                    results.append(work(*image))
            outputs = [_stacked(arrays) for arrays in zip(*results, strict=True)]
            return self._respond(visit, self._checked(outputs))
        except Exception as error:  # a border: see errors.py
            return self._refuse(visit, error)

    def _arrive(self, request: Any) -> Visit:
        visit = self.passage.arrive(self.pb_utils, request)
        if visit.is_own:
            self.metrics.count_request()
        return visit

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

    def _respond(self, visit: Visit, arrays: Arrays) -> Any:
        tensors = []
        for tensor, array in zip(self.outputs, arrays, strict=True):
            tensors.append(self.pb_utils.Tensor(tensor.name, array))
            if tensor == self.people and visit.is_own:
                self.metrics.count_people(array)
        if self.place:
            places = visit.places(len(arrays[0]))
            tensors.append(self.pb_utils.Tensor(self.place.name, places))
        response = self.pb_utils.InferenceResponse(tensors)
        self.passage.leave(visit)
        return response

    def _refuse(self, visit: Visit, error: Exception) -> Any:
        """A wrong request is its sender's business; anything else is ours and is logged."""
        self.passage.fail(visit)
        code = self.pb_utils.TritonError.INVALID_ARG
        text = str(error)
        if isinstance(error, ServerFull | ServerStopping):
            code = self.pb_utils.TritonError.UNAVAILABLE
        elif isinstance(error, Cancelled):
            code = self.pb_utils.TritonError.CANCELLED
        elif not isinstance(error, ContractError | ImageError):
            code = self.pb_utils.TritonError.INTERNAL
            if isinstance(error, PoseError):
                self.pb_utils.Logger.log_error(text)
            else:
                self.pb_utils.Logger.log_error("".join(traceback.format_exception(error)))
                text = " ".join(f"{type(error).__name__}: {error}".split())
        if visit.is_own:
            self.metrics.count_refused(error.reason if isinstance(error, PoseError) else "internal")
        return self.pb_utils.InferenceResponse(error=self.pb_utils.TritonError(text, code))


def parameter(model_config: str, name: str, default: str | None = None) -> str:
    """One of the `parameters` of the config.pbtxt that Triton loaded.

    Args:
        model_config: `args["model_config"]` of a model's `initialize`, JSON.
        name: of the parameter.
        default: where it lacks; a KeyError without one.
    """
    parameters = json.loads(model_config).get("parameters", {})
    if name not in parameters and default is not None:
        return default
    return str(parameters[name]["string_value"])


def card_decodes(model_config: str) -> bool:
    """Whether a GPU decodes the JPEGs, as the config.pbtxt that Triton loaded says."""
    return parameter(model_config, "decodes_on", "cpu") == "cuda"


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
