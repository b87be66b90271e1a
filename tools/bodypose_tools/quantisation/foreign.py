"""The equalised float graph for quantisers of other projects, and the nodes that they should leave.

Users of Model Optimizer, NNCF or ONNX Runtime get what `tools export --data_type int8` gets from
`equalisation` and from the rules of `placement`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.graphs.storage import share_constants, unfold_casts
from bodypose_tools.runtimes.settings import GraphRuntime

from .calibration_files import images_of
from .equalisation import channel_ranges, equalise, scalable_tensors
from .gate import AccuracyGateError, peaks_against
from .placement import left_in_float, place, prepare
from .search import SENSITIVITY_IMAGES, activations
from .settings import MIN_AGREEMENT


def for_quantisers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float graph as other quantisers can read it: batch norm folded, float32 weights.

    Raises:
        QuantisationError: the opset is too old, or the graph is quantised already.
    """
    return unfold_casts(prepare(model))


def equalised_for_quantisers(
    model: onnx.ModelProto, images: NDArray[np.uint8]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The equalised float graph, and the names of the nodes to leave in float.

    Args:
        model: float graph with its decoding layers.
        images: (B, H, W, 3) uint8, through the serving preprocessing.
    """
    prepared = for_quantisers(model)
    names = scalable_tensors(prepared, place(prepared).tensors)
    made = equalise(prepared, channel_ranges(names, activations(prepared, names), images))
    return share_constants(made), left_in_float(made)


def equalise_file(model: Path, out: Path, folder: Path, count: int) -> Artifact:
    """Write the equalised float graph of an ONNX file, with the node names in its record.

    Args:
        model: float ONNX file of `tools export --sdk_compatible_model`.
        out: ONNX file to write; its record's `settings.leave_in_float` has the names.
        folder: calibration images.
        count: how many of them measure the channels.

    Raises:
        AccuracyGateError: the graph does not find the joints of `model`; nothing was written.
        CalibrationError: too few images.
        QuantisationError: the file is quantised already.
    """
    parent = Artifact.open(model)
    spec = spec_in_onnx(model)
    images = np.stack(list(images_of(folder, count, spec.network_hw)))
    made, names = equalised_for_quantisers(onnx.load(model, load_external_data=False), images)
    seen = images[:SENSITIVITY_IMAGES]
    with atomic_path(out) as temporary:
        onnx.save(made, temporary)
        stay = peaks_against(model, seen, GraphRuntime.ONNX_RUNTIME)(temporary)
        if stay < MIN_AGREEMENT:
            raise AccuracyGateError(
                f"{model}: expected at least {MIN_AGREEMENT:g} of the joints to stay where they are"
                f" when channels are scaled, got {stay:.4f}; run `tools gate` to see whether the"
                " file is sound"
            )
    settings = {"images": count, "joints_that_stay": stay, "leave_in_float": list(names)}
    return Artifact.record(out, "equalise", parent, settings=settings)
