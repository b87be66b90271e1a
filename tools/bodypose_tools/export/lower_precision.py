"""`tools export --data-type int8|fp16`: a float graph, made or given, in lower precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bodypose_tools.evaluation.offline import Split
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.files.json_records import RecordError, read_record
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.graphs.float16 import to_half
from bodypose_tools.graphs.resized_images import resize_by_picking
from bodypose_tools.graphs.transposed_convolution import rearrange_convolutions
from bodypose_tools.quantisation.gate import (
    AccuracyGateError,
    Judge,
    agreement_judge,
    ap_judge,
    peak_loss,
    peaks_against,
)
from bodypose_tools.quantisation.placement import prepare
from bodypose_tools.quantisation.search import (
    SENSITIVITY_IMAGES,
    Quantised,
    Say,
    Scales,
    calibrated_scales,
    calibration_images,
    early_judge,
    equalised,
    gate_images,
    input_means,
    quantise,
)
from bodypose_tools.quantisation.settings import MAX_AP_DROP, MIN_AGREEMENT, OnMiss
from bodypose_tools.runtimes.cpu import int8_warning
from bodypose_tools.runtimes.settings import GraphRuntime
from pose_runtime.errors import PoseError

from .settings import Int8Settings
from .source import ExportSource


class PrecisionError(PoseError):
    """A graph cannot be exported in the precision asked for."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What a graph of lower precision must keep; the AP gate runs when splits are given."""

    min_agreement: float = MIN_AGREEMENT
    splits: tuple[Split, ...] = ()
    max_ap_drop: float = MAX_AP_DROP
    on_miss: OnMiss = OnMiss.REPORT

    def quick(
        self,
        float_model: Path,
        images: NDArray[np.uint8],
        runtime: GraphRuntime = GraphRuntime.ONNX_RUNTIME,
    ) -> Judge:
        """The gate without labels, which is judged first.

        Args:
            float_model: the graph that sets the measure.
            images: (B, H, W, 3) uint8.
            runtime: runs both graphs.
        """
        return agreement_judge(float_model, images, self.min_agreement, runtime)

    def labelled(
        self, float_model: Path, runtime: GraphRuntime = GraphRuntime.ONNX_RUNTIME
    ) -> list[Judge]:
        """The AP gate, when splits are given."""
        if not self.splits:
            return []
        return [ap_judge(float_model, self.splits, self.max_ap_drop, runtime)]


def export_int8(
    source: ExportSource,
    out: Path,
    int8: Int8Settings,
    gates: Gates,
    say: Say,
) -> tuple[Artifact, Quantised]:
    """Write an INT8 graph that passed its gates.

    OpenVINO judges a graph with unsigned activations, because only CPUs run it and OpenVINO serves
    it there. ONNX Runtime judges a graph for TensorRT, whose own arithmetic needs a GPU.

    Args:
        source: what is exported.
        out: ONNX file to write.
        int8: calibration, layers that stay in float, unsigned activations.
        gates: what the graph must keep.
        say: gets a line about each step.

    Raises:
        AccuracyGateError: a gate was missed; nothing was written.
        CalibrationError: too few images, or a calibration file of something else.
    """
    calibration, unsigned = int8.calibration, int8.unsigned
    with _float_graph(source) as (path, parent):
        spec = spec_in_onnx(path)
        images = calibration_images(calibration, spec.network_hw, say)
        judged_on = gate_images(images)
        prepared = prepare(onnx.load(path, load_external_data=False))
        if unsigned:
            prepared = rearrange_convolutions(resize_by_picking(prepared))
        prepared = equalised(prepared, calibration, judged_on, say)
        runtime = GraphRuntime.OPENVINO if unsigned else GraphRuntime.ONNX_RUNTIME
        if unsigned and (warning := int8_warning()):
            say(f"warning: {warning}")
        means = input_means(prepared, judged_on)
        quick = gates.quick(path, judged_on, runtime)

        def quantised(scales: Scales, judges: list[Judge]) -> Quantised:
            return quantise(
                prepared,
                scales,
                means,
                judges,
                gates.on_miss,
                lambda: peaks_against(path, judged_on[:SENSITIVITY_IMAGES], runtime, peak_loss),
                say,
                int8.float_layers,
                unsigned=unsigned,
            )

        def refuse_early(scales: Scales) -> None:
            quantised(scales, [early_judge(quick, calibration.images)])

        early = refuse_early if gates.on_miss is OnMiss.REPORT else None
        scales, how = calibrated_scales(
            prepared, parent, calibration, images, spec.network_hw, say, early
        )
        made = quantised(scales, [quick, *gates.labelled(path, runtime)])
    settings = {
        "data_type": "int8",
        "calibration": how,
        "unsigned_activations": unsigned,
        "int8_layers": made.int8_layers,
        "int8_macs_share": round(made.macs_share, 4),
        "float_layers": list(made.float_layers),
        "gates": [asdict(verdict) for verdict in made.verdicts],
        "gate_runtime": str(runtime),
    }
    return _write(made.model, out, parent, settings), made


def float_layers_in(record: Path) -> tuple[str, ...]:
    """The layers that stayed in float, of an INT8 graph's record or of its gate's.

    Raises:
        RecordError: the file is neither, or is of a time when records did not name the layers.
    """
    raw = read_record(record, {})
    candidate = raw.get("candidate")
    settings = raw.get("settings") or (
        candidate.get("settings") if isinstance(candidate, dict) else None
    )
    layers = settings.get("float_layers") if isinstance(settings, dict) else None
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise RecordError(
            f"{record}: expected a record with the float layers of an INT8 graph, got none; run"
            " `tools export --data-type int8 --auto-mixed`, which writes one"
        )
    return tuple(layers)


def export_half(source: ExportSource, out: Path, gates: Gates) -> Artifact:
    """Write a typed float16 graph with float32 outputs that passed its gates.

    Raises:
        AccuracyGateError: a gate was missed; nothing was written.
    """
    with _float_graph(source) as (path, parent), TemporaryDirectory() as folder:
        spec = spec_in_onnx(path)
        half = to_half(onnx.load(path, load_external_data=False))
        candidate = Path(folder) / "half.onnx"
        onnx.save(half, candidate)
        quick = gates.quick(path, source.samples(spec.network_hw))
        verdicts = [judge(candidate) for judge in (quick, *gates.labelled(path))]
    if missed := [verdict for verdict in verdicts if not verdict.passed]:
        raise AccuracyGateError(f"{out}: float16 misses a gate: {missed[0]}; nothing was written")
    settings = {"data_type": "fp16", "gates": [asdict(verdict) for verdict in verdicts]}
    return _write(half, out, parent, settings)


def _write(
    model: onnx.ModelProto, out: Path, parent: Artifact, settings: dict[str, Any]
) -> Artifact:
    with atomic_path(out) as temporary:
        onnx.save(model, temporary)
        spec = spec_in_onnx(temporary)
    described = {"pipeline_network_hw": spec.network_hw, **settings}
    return Artifact.record(out, "export", parent, settings=described)


@contextlib.contextmanager
def _float_graph(source: ExportSource) -> Iterator[tuple[Path, Artifact]]:
    """A float32 ONNX file with decoding layers, and the file that it comes from."""
    if source.model.suffix == ".onnx":
        parent = Artifact.open(source.model)
        spec = spec_in_onnx(source.model)
        if source.network_hw not in (None, spec.network_hw):
            raise PrecisionError(
                f"{source.model}: expected input size {spec.network_hw}, got {source.network_hw};"
                " give the .keras file for another size"
            )
        yield source.model, parent
        return
    if source.decode is None:
        raise PrecisionError(
            "expected --sdk-compatible-model with int8 and fp16, because their gate compares joints"
        )
    from .onnx_from_keras import export_onnx

    with TemporaryDirectory() as folder:
        made, _ = export_onnx(
            source.model,
            Path(folder) / "float.onnx",
            network_hw=source.network_hw,
            decode=source.decode,
            samples=source.samples,
        )
        yield made.path, Artifact.open(source.model)
