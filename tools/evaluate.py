"""Owns offline evaluation: images through the serving steps in this process, then COCO AP.

The steps are the server's own: `pose_runtime.images`, the network with its decoding layers,
`pose_runtime.grouping`. Only where the network runs differs, and that is a `Predictor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.coco_eval import CocoMetrics, annotated_sigmas, coco_results, evaluate_results
from client.progress import with_progress
from pose_runtime.grouping import people_in_image
from pose_runtime.poses import Poses
from pose_runtime.spec import PipelineSpec

from .accuracy_limits import GraphRuntime
from .artifacts import Artifact
from .cpu_runtimes import onnx_session, openvino_model
from .dataset import ImageRecord, network_view, read_coco
from .onnx_contract import spec_in_onnx

if TYPE_CHECKING:
    import keras

ENGINE_SUFFIXES = (".plan", ".engine")

Floats = NDArray[np.float32]
# (B, H, W, 3) uint8 -> peaks (B, J, P, 3), limb_scores (B, L, P, P)
Predictor = Callable[[NDArray[np.uint8]], tuple[Floats, Floats]]


def find_people(
    predict: Predictor, records: Sequence[ImageRecord], spec: PipelineSpec, batch_size: int = 8
) -> Iterator[tuple[ImageRecord, Poses]]:
    """The people of every image, in order; memory holds one batch."""
    for record, peaks, limb_scores, geometry in network_answers(predict, records, spec, batch_size):
        yield record, people_in_image(peaks, limb_scores, geometry, spec)


def network_answers(
    predict: Predictor, records: Sequence[ImageRecord], spec: PipelineSpec, batch_size: int = 8
) -> Iterator[tuple[ImageRecord, Floats, Floats, Floats]]:
    """What grouping gets for every image: peaks, limb scores and geometry."""
    for start in range(0, len(records), batch_size):
        batch = records[start : start + batch_size]
        placed = [network_view(record, spec.network_hw, spec.limits) for record in batch]
        pixels = np.stack([image for image, _ in placed])
        if len(batch) < batch_size:  # one shape only, so that nothing compiles twice
            pixels = np.pad(pixels, ((0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)))
        peaks, limb_scores = predict(pixels)
        for row, record in enumerate(batch):
            yield record, peaks[row], limb_scores[row], placed[row][1].to_geometry()


def coco_results_of(
    found: Iterator[tuple[ImageRecord, Poses]], spec: PipelineSpec
) -> list[dict[str, Any]]:
    """COCO result entries of `find_people`'s answers."""
    return [
        entry
        for record, poses in found
        for entry in coco_results(record.image_id, poses, spec.skeleton)
    ]


def network_predictor(network: keras.Model, spec: PipelineSpec) -> Predictor:
    """A predictor that shares a network's weights and decodes inside the graph."""
    import keras

    from .decoding import DecodeSettings, decode_fields
    from .fields import Fields

    pixels = keras.Input((*spec.network_hw, 3), dtype="uint8")
    fields = Fields.of(network(pixels, training=False))
    settings = DecodeSettings(max_peaks=spec.max_peaks)
    decoder = keras.Model(pixels, decode_fields(fields, spec.skeleton, settings, spec.network_hw))

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        peaks, limb_scores = decoder.predict_on_batch(batch)
        return np.asarray(peaks), np.asarray(limb_scores)

    return predict


def evaluate_model(
    predict: Predictor,
    spec: PipelineSpec,
    annotations: Path,
    images: Path,
    limit: int | None = None,
    batch_size: int = 8,
    progress: str = "",
) -> CocoMetrics:
    """COCO's ten numbers of a model on a split, or on its first `limit` images.

    With a name for it, `progress` is shown on stderr.

    Raises:
        DatasetError: the annotations or images are missing or of another skeleton.
    """
    records = read_coco(annotations, images, spec.skeleton)[:limit]
    found = find_people(predict, records, spec, batch_size)
    if progress:
        found = with_progress(found, len(records), progress)
    return metrics_of(found, spec, annotations, [record.image_id for record in records])


def metrics_of(
    found: Iterator[tuple[ImageRecord, Poses]],
    spec: PipelineSpec,
    annotations: Path,
    image_ids: Sequence[int],
) -> CocoMetrics:
    """COCO's ten numbers of `find_people`'s answers about these images."""
    results = coco_results_of(found, spec)
    return evaluate_results(annotations, results, image_ids, annotated_sigmas(spec.skeleton))


def open_predictor(
    model: Path, runtime: GraphRuntime = GraphRuntime.ONNX_RUNTIME
) -> tuple[Predictor, PipelineSpec, Artifact]:
    """How to run a `.keras`, `.onnx` or `.plan` file, its pipeline, and the file.

    `runtime` is that of `.onnx` files; but for `OPENVINO_BF16`, what is not quantised is computed
    in float32.

    Raises:
        ModelFileError, OnnxError: not a model of ours.
        EngineError: an engine that cannot run here; says what to install or where to run.
        MissingArtifactError, StaleArtifactError: no such file, or it changed after it was made.
    """
    if model.suffix == ".onnx":
        artifact = Artifact.open(model)
        spec = spec_in_onnx(model)
        match runtime:
            case GraphRuntime.ONNX_RUNTIME:
                predictor = onnx_predictor(model, spec)
            case GraphRuntime.OPENVINO:
                predictor = openvino_predictor(model, spec)
            case GraphRuntime.OPENVINO_BF16:
                predictor = openvino_predictor(model, spec, "bf16")
        return predictor, spec, artifact
    if model.suffix in ENGINE_SUFFIXES:
        from .engine_running import open_engine

        return open_engine(model)
    from .keras_models import load_network

    network, spec, artifact = load_network(model)
    return network_predictor(network, spec), spec, artifact


def onnx_predictor(path: Path, spec: PipelineSpec) -> Predictor:
    """A predictor that runs an exported graph in ONNX Runtime."""
    session = onnx_session(path)
    outputs = [spec.peaks.name, spec.limb_scores.name]

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        peaks, limb_scores = session.run(outputs, {spec.pixels.name: batch})
        return peaks, limb_scores

    return predict


def openvino_predictor(path: Path, spec: PipelineSpec, precision: str = "f32") -> Predictor:
    """A predictor that runs an exported graph in OpenVINO, as the embedded server does.

    It takes image by image, and the shapes are fixed: with free ones OpenVINO fuses INT8 otherwise.
    """
    compiled = openvino_model(path, precision, shapes=[[1, *spec.pixels.dims]])
    request = compiled.create_infer_request()
    outputs = [compiled.output(tensor.name) for tensor in (spec.peaks, spec.limb_scores)]

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        found: list[list[Floats]] = []
        for image in batch:
            results = request.infer({spec.pixels.name: image[None]})
            found.append([np.array(results[output]) for output in outputs])
        peaks, limb_scores = (np.concatenate(each) for each in zip(*found, strict=True))
        return peaks, limb_scores

    return predict
