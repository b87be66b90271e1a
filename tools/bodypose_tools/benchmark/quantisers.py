"""The comparison of INT8 quantisers: ours and other projects', on one float graph.

Each other quantiser is installed into an environment of its own, with pinned versions. It gets the
graph three times: as it comes, with only the decoding layers in float; with the nodes that our
rules leave in float; and equalised by `tools equalise`, with the same nodes. All graphs run in
OpenVINO with fixed shapes, as they are served.
"""

from __future__ import annotations

import json
import subprocess
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray

from bodypose_tools.evaluation.offline import Split, evaluate_pool, pool
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.quantisation.calibration import scales_of
from bodypose_tools.quantisation.calibration_files import images_of
from bodypose_tools.quantisation.foreign import equalised_for_quantisers, for_quantisers
from bodypose_tools.quantisation.placement import decoding_layers, left_in_float, place
from bodypose_tools.quantisation.qdq import insert_qdq
from bodypose_tools.quantisation.search import activations, input_means
from bodypose_tools.quantisation.settings import Method
from bodypose_tools.runtimes.clock import compared, take_turns
from bodypose_tools.runtimes.cpu import openvino_model
from bodypose_tools.runtimes.predictors import compiled_predictor
from pose_runtime.errors import PoseError

from .settings import Quantiser

if TYPE_CHECKING:
    import openvino

SCHEMA: Final = "bodypose-quantisers/1"
FLOAT: Final = "float32"
OURS: Final = "ours"
_TIMEOUT_S = 1800
_RUNS = Path(__file__).parent / "quantiser_runs"

Say = Callable[[str], None]


class QuantiserError(PoseError):
    """Another project's quantiser could not be installed, or failed."""


@dataclass(frozen=True, slots=True)
class Library:
    """Another project's quantiser: what to install, and its calibration as it comes and by rules.

    The second method is the one that suits a graph whose ranges are to be kept.
    """

    title: str
    packages: tuple[str, ...]
    run: str  # file of `quantiser_runs`
    suffix: str  # of what it writes
    as_it_comes: str
    with_rules: str


LIBRARIES: Final[Mapping[Quantiser, Library]] = {
    Quantiser.MODEL_OPTIMIZER: Library(
        "Model Optimizer",
        ("nvidia-modelopt[onnx]==0.47.0",),
        "model_optimizer.py",
        ".onnx",
        "entropy",
        "max",
    ),
    Quantiser.NNCF: Library(
        "NNCF",
        ("nncf==3.4.0", "openvino==2026.4.1"),
        "openvino_nncf.py",
        ".xml",
        "performance",
        "mixed",
    ),
    Quantiser.ONNX_RUNTIME: Library(
        "ONNX Runtime",
        ("onnxruntime==1.32.0", "onnx==1.23.2"),
        "onnx_runtime.py",
        ".onnx",
        "MinMax",
        "MinMax",
    ),
}


def compare_quantisers(
    model: Path,
    annotations: Path,
    images: Path,
    calibration: Path,
    count: int,
    quantisers: Sequence[Quantiser],
    environments: Path,
    rounds: int,
    say: Say,
) -> dict[str, Any]:
    """AP, INT8 convolutions, speed and size of each quantiser's graphs, as a record for JSON.

    Args:
        model: float ONNX file with decoding layers.
        annotations: COCO file of the split that gives AP.
        images: its images.
        calibration: folder of calibration images.
        count: how many of them are used.
        quantisers: which libraries take part.
        environments: folder of their environments; made where they are missing.
        rounds: of the paired timing.
        say: gets a line about each graph.

    Raises:
        QuantiserError: a library cannot be installed or fails; the message has its last line.
    """
    spec = spec_in_onnx(model)
    split = pool([Split(annotations, images)], spec.skeleton)
    pixels = np.stack(list(images_of(calibration, count, spec.network_hw)))
    graphs: dict[str, Path] = {FLOAT: model}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for title, path in _made(model, pixels, quantisers, environments, folder):
            say(f"{title}: {_megabytes(path):.1f} MB")
            graphs[title] = path
        measured: dict[str, Any] = {}
        sides: dict[str, Callable[[], object]] = {}
        for title, path in graphs.items():
            compiled = openvino_model(path, shapes=[(1, *spec.pixels.dims)])
            predict = compiled_predictor(compiled, spec)
            scored = evaluate_pool(predict, spec, split)
            measured[title] = {
                "AP": scored.ap,
                "megabytes": round(_megabytes(path), 2),
                "int8_convolutions": _int8_convolutions(compiled),
            }
            sides[title] = partial(compiled.create_infer_request().infer, [pixels[:1]])
            say(f"{title}: AP {scored.ap:.4f}")
        speeds = compared(take_turns(sides, rounds, 3), FLOAT)
    for title, numbers in measured.items():
        numbers["AP_drop"] = round(measured[FLOAT]["AP"] - numbers["AP"], 4)
        numbers.update(speeds[title])
    return {
        "schema": SCHEMA,
        "split": annotations.name,
        "calibration_images": count,
        "packages": {LIBRARIES[name].title: LIBRARIES[name].packages for name in quantisers},
        "graphs": measured,
    }


def _made(
    model: Path,
    pixels: NDArray[np.uint8],
    quantisers: Sequence[Quantiser],
    environments: Path,
    folder: Path,
) -> Iterator[tuple[str, Path]]:
    """The INT8 graphs, by title."""
    given = onnx.load(model, load_external_data=False)
    plain = for_quantisers(given)
    equalised, leave = equalised_for_quantisers(given, pixels)
    onnx.save(plain, folder / "plain.onnx")
    onnx.save(equalised, folder / "equalised.onnx")
    np.save(folder / "pixels.npy", pixels)

    names = place(equalised).tensors
    scales = scales_of(names, activations(equalised, names), pixels, Method.PERCENTILE)
    ours = insert_qdq(
        equalised, place(equalised, unsigned=True), scales, input_means(equalised, pixels)
    )
    onnx.save(ours, folder / "ours.onnx")
    yield OURS, folder / "ours.onnx"

    for quantiser in quantisers:
        library = LIBRARIES[quantiser]
        python = environment(quantiser, environments)
        for title, graph, left, method in (
            ("as it comes", "plain", decoding_layers(plain), library.as_it_comes),
            ("our rules", "plain", left_in_float(plain), library.with_rules),
            ("our rules, equalised", "equalised", leave, library.with_rules),
        ):
            out = folder / f"{quantiser}-{len(title)}{library.suffix}"
            job = {
                "model": str(folder / f"{graph}.onnx"),
                "out": str(out),
                "input": given.graph.input[0].name,
                "pixels": str(folder / "pixels.npy"),
                "leave": list(left),
                "method": method,
            }
            (folder / "job.json").write_text(json.dumps(job))
            _run([str(python), str(_RUNS / library.run), str(folder / "job.json")], library.title)
            yield f"{library.title}, {title}", out


def environment(quantiser: Quantiser, environments: Path) -> Path:
    """The Python of a library's own environment, which is made where it is missing.

    Raises:
        QuantiserError: it cannot be installed.
    """
    library = LIBRARIES[quantiser]
    folder = environments / quantiser
    python = folder / "bin" / "python"
    installed = folder / "installed.txt"
    wanted = "\n".join(library.packages)
    if not installed.is_file() or installed.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "-q", *library.packages], library.title)
        installed.write_text(wanted)
    return python


def _run(command: list[str], title: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise QuantiserError(
            f"{title}: expected an exit code of 0, got {done.returncode}: {said[:200]}; leave it"
            " out with --quantiser"
        )


def _megabytes(path: Path) -> float:
    """Of an ONNX file, or of OpenVINO's two files."""
    files = (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
    return sum(file.stat().st_size for file in files) / 1e6


def _int8_convolutions(compiled: openvino.CompiledModel) -> int:
    """Convolutions that OpenVINO executes in INT8, as its compiled graph says."""
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    return sum(
        info["layerType"].astype(str) == "Convolution"
        and info["runtimePrecision"].astype(str) in ("i8", "u8")
        for info in infos
    )


def quantisers_table(record: Mapping[str, Any]) -> list[str]:
    """The table of docs/quantisers.md, line by line."""
    rows = [
        "| graph | AP | drop | INT8 convolutions | times float32 | MB |",
        "|---" * 6 + "|",
    ]
    for title, numbers in record["graphs"].items():
        ratio = numbers["times_as_fast"]
        interval = "" if ratio["low"] is None else f" ({ratio['low']:.2f} to {ratio['high']:.2f})"
        rows.append(
            f"| {title} | {numbers['AP']:.4f} | {numbers['AP_drop']:.4f}"
            f" | {numbers['int8_convolutions']}"
            f" | {ratio['median']:.2f}{interval} | {numbers['megabytes']:.1f} |"
        )
    return rows
