"""A foreign network between our pixels and our decoding layers, in one graph that is served."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, helper

from bodypose_tools.export.decoding_graph import decoding_graph
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.graphs.contract import PIPELINE_KEY, OnnxError, spec_in_onnx
from bodypose_tools.graphs.index import opset_of
from bodypose_tools.graphs.node_names import name_by_place
from bodypose_tools.graphs.storage import rename_outputs
from bodypose_tools.networks.decoding import DecodeSettings
from bodypose_tools.runtimes.cpu import onnx_session
from bodypose_tools.runtimes.peaks import peak_gaps
from pose_runtime.errors import first_line
from pose_runtime.spec import PipelineSpec

from .channels import ChannelReport, channel_report
from .fields_graph import fields_graph
from .foreign_graph import OURS, AdoptionError, ForeignNetwork, stride_of
from .sampling import fields_on
from .settings import Convention

# Between an image alone and in a batch: network pixels that a peak moves, and of its score.
_MAX_SHIFT, _MAX_SCORE_GAP = 0.5, 0.02

Floats = NDArray[np.float32]


def adopt(
    source: Path,
    network: ForeignNetwork,
    convention: Convention,
    pipeline: PipelineSpec,
    out: Path,
    samples: Callable[[tuple[int, int]], NDArray[np.uint8]],
) -> tuple[Artifact, ChannelReport]:
    """Write the graph that `tools build-repo` serves, and report what its channels show.

    Args:
        source: the foreign file, for the record.
        network: the graph in it.
        convention: as it was opened with.
        pipeline: skeleton, thresholds and number of peaks; the input's size is the network's.
        out: ONNX file to write.
        samples: makes images (B, H, W, 3) uint8 of people, of the size given.

    Raises:
        AdoptionError: the convention leaves open how pixels are scaled, or the graph does not treat
            the images of a batch each by itself; nothing was written.
    """
    images = samples(pipeline.network_hw)
    shapes = {kind: (len(o.channels), *o.shape[1:]) for kind, o in network.outputs.items()}
    decode = DecodeSettings(max_peaks=pipeline.max_peaks)
    graph = _joined(
        fields_graph(network, convention), decoding_graph(pipeline, decode, shapes), pipeline
    )
    parent = Artifact.open(source)
    with atomic_path(out) as temporary:
        onnx.save(graph, temporary)
        try:
            spec_in_onnx(temporary)
        except OnnxError as error:
            raise AdoptionError(str(error).replace(str(temporary), str(out))) from error
        peaks = _peaks_of_batches(temporary, images, pipeline)
    report = channel_report(peaks, *fields_on(network, convention, images), pipeline)
    settings = {
        "convention": asdict(convention),
        "pipeline": json.loads(pipeline.to_json()),
        "strides": {
            kind: stride_of(o.shape[1:], pipeline.network_hw) for kind, o in network.outputs.items()
        },
    }
    settings["channels"] = report.to_json()
    return Artifact.record(out, "adopt", parent, settings=settings), report


def _joined(
    fields: onnx.ModelProto, decoding: onnx.ModelProto, pipeline: PipelineSpec
) -> onnx.ModelProto:
    opset = opset_of(fields)
    if opset > opset_of(decoding):
        try:
            decoding = onnx.version_converter.convert_version(decoding, opset)
        except (RuntimeError, ValueError) as error:
            raise AdoptionError(
                f"expected an opset that ONNX converts our decoding layers to, got {opset}; export"
                f" the network again with opset {opset_of(decoding)}"
            ) from error
    decoding = compose.add_prefix(decoding, f"{OURS}decoding/")
    inputs = {each.name: each.name.replace("decoding/", "") for each in decoding.graph.input}
    joined = onnx.ModelProto()
    joined.CopyFrom(fields)
    for node in decoding.graph.node:
        node.input[:] = [inputs.get(name, name) for name in node.input]
        joined.graph.node.append(node)
    joined.graph.initializer.extend(decoding.graph.initializer)
    del joined.graph.output[:]
    joined.graph.output.extend(decoding.graph.output)
    known = {entry.domain for entry in joined.opset_import}
    joined.opset_import.extend(e for e in decoding.opset_import if e.domain not in known)
    joined.graph.name = "adopted"
    joined.producer_name, joined.producer_version = "bodypose-triton", ""
    joined = rename_outputs(
        _with_input_named(name_by_place(joined), pipeline.pixels.name),
        (pipeline.peaks.name, pipeline.limb_scores.name),
    )
    helper.set_model_props(joined, {PIPELINE_KEY: pipeline.to_json()})
    return joined


def _with_input_named(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The graph, changed in place, whose only input has another name."""
    (value,) = model.graph.input
    for node in model.graph.node:
        node.input[:] = [name if read == value.name else read for read in node.input]
    value.name = name
    return model


def _peaks_of_batches(path: Path, images: NDArray[np.uint8], pipeline: PipelineSpec) -> Floats:
    """Peaks (B, J, P, 3) of the images, each alone.

    Raises:
        AdoptionError: the graph fails for several images, or an answer depends on the others.
    """
    count = len(images)
    if count == 1:
        images = np.concatenate([images, images[:, :, ::-1]])
    advice = "export the network again with a batch of any size (dynamic axes)"
    session = onnx_session(path)
    try:
        together = session.run(None, {pipeline.pixels.name: images})[0]
    except Exception as error:  # ONNX Runtime's own errors have no common base
        raise AdoptionError(
            f"expected a graph for batches of any size, got one that fails for {len(images)}"
            f" images ({first_line(error)}); {advice}"
        ) from error
    peaks = []
    for row, image in enumerate(images):
        alone = session.run(None, {pipeline.pixels.name: image[None]})[0][0]
        if not np.isfinite(alone).all():
            raise AdoptionError(
                "expected finite fields, got NaN or infinity on a sample image; --mean and --std"
                " may be wrong, or float16 too small for the network"
            )
        sure = together[row][..., 2] >= pipeline.grouping.min_peak_score + _MAX_SCORE_GAP
        stays = (peak_gaps(together[row], alone)[sure] <= _MAX_SHIFT).all()
        scores = np.abs(together[row][..., 2] - alone[..., 2])
        if not (stays and scores.max() <= _MAX_SCORE_GAP):
            raise AdoptionError(
                "expected the same peaks for an image alone and in a batch, got others; " + advice
            )
        peaks.append(alone)
    return np.stack(peaks[:count])
