"""Polygraphy's JSON files: inputs and outputs of runs, exchanged with `polygraphy run`.

Inputs (`--load-inputs`, `--save-inputs`): a list with one {tensor: array} per iteration. Outputs
(`--load-outputs`, `--save-outputs`): its `RunResults`, runners with their iterations. Arrays are
NumPy's own format in base64; classes are named by a marker. Polygraphy 0.53 reads and writes both.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bodypose_client.scoring.json_file import read_json
from bodypose_tools.files.arrays import array_of
from bodypose_tools.files.atomic_files import atomic_path
from pose_runtime.errors import PoseError

Tensors = dict[str, NDArray[Any]]
_CLASS: Final = "polygraphy_class"


class PolygraphyFileError(PoseError):
    """A file is not what Polygraphy writes."""


@dataclass(frozen=True, slots=True, eq=False)
class RunnerOutputs:
    """The outputs of one runner in every iteration."""

    runner: str
    outputs: Sequence[Tensors]
    seconds: Sequence[float]


def save_inputs(path: Path, iterations: Sequence[Tensors]) -> None:
    """Write the inputs of every iteration."""
    _write(path, [{name: _encoded(a) for name, a in tensors.items()} for tensors in iterations])


def load_inputs(path: Path) -> list[Tensors]:
    """The inputs of every iteration.

    Raises:
        PolygraphyFileError: it is not such a file.
    """
    try:
        return [
            {name: _decoded(a) for name, a in tensors.items()}
            for tensors in read_json(path, "Polygraphy's JSON")
        ]
    except (PoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PolygraphyFileError(
            f"{path}: expected inputs as `polygraphy run --save-inputs` writes, got {error!r}"
        ) from error


def save_outputs(path: Path, runs: Sequence[RunnerOutputs]) -> None:
    """Write the outputs of several runners."""
    runners = []
    for run in runs:
        iterations = [
            {
                "outputs": {name: _lazy(array) for name, array in tensors.items()},
                "runtime": spent,
                "runner_name": run.runner,
                _CLASS: "IterationResult",
            }
            for tensors, spent in zip(run.outputs, run.seconds, strict=True)
        ]
        runners.append([run.runner, iterations])
    _write(path, {"lst": runners, _CLASS: "RunResults"})


def load_outputs(path: Path) -> list[RunnerOutputs]:
    """The outputs of all runners.

    Raises:
        PolygraphyFileError: it is not such a file.
    """
    try:
        runs = []
        for runner, iterations in read_json(path, "Polygraphy's JSON")["lst"]:
            outputs = [
                {name: _decoded(lazy["values"]) for name, lazy in iteration["outputs"].items()}
                for iteration in iterations
            ]
            runs.append(RunnerOutputs(runner, outputs, [float(i["runtime"]) for i in iterations]))
        return runs
    except (PoseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise PolygraphyFileError(
            f"{path}: expected outputs as `polygraphy run --save-outputs` writes, got {error!r}"
        ) from error


def _write(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content))


def _encoded(array: NDArray[Any]) -> dict[str, str]:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return {"array": base64.b64encode(buffer.getvalue()).decode(), _CLASS: "ndarray"}


def _lazy(array: NDArray[Any]) -> dict[str, Any]:
    return {"values": _encoded(array), _CLASS: "LazyArray"}


def _decoded(encoded: dict[str, str]) -> NDArray[Any]:
    data = base64.b64decode(encoded["array"], validate=True)
    return array_of(data)
