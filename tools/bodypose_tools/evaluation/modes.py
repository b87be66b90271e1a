"""Evaluation modes: strict as served, keep-aspect, multi-scale, flip.

A server works in strict mode. The others show the accuracy of the same weights with more work per
image: fields of several views of an image are brought into one frame and averaged, then decoded
by the usual layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bodypose_client.progress import with_progress
from bodypose_client.scoring.coco_eval import CocoMetrics
from bodypose_tools.data.coco import ImageRecord, network_view, read_coco
from bodypose_tools.networks.fields import SIDE_MULTIPLE, Fields
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.errors import PoseError
from pose_runtime.grouping import people_in_image
from pose_runtime.poses import Poses
from pose_runtime.spec import PipelineSpec

from .field_frames import Frame, in_frame, last_stage, mean_fields, unmirrored
from .offline import find_people, metrics_of
from .tune_grouping import read_grouping

if TYPE_CHECKING:
    import keras

MULTI_SCALES = (0.5, 1.0, 1.5, 2.0)  # BodyPoseNet's
_MULTIPLE = max(SIDE_MULTIPLE.values())  # of a view's sides; fits every architecture

Floats = NDArray[np.float32]
# (1, H, W, 3) uint8 -> a network's outputs, (1, h, w, C) each
FieldNetwork = Callable[[NDArray[np.uint8]], Sequence[Floats]]
# One image's fields and H, W -> peaks (J, P, 3), limb_scores (L, P, P)
Decoder = Callable[[Fields, tuple[int, int]], tuple[Floats, Floats]]


class ModeError(PoseError):
    """A file that cannot be evaluated in this mode."""


@dataclass(frozen=True, slots=True)
class EvaluationMode:
    """The default is strict: one view, padded into the network's own input size."""

    scales: tuple[float, ...] = (1.0,)
    keep_aspect: bool = False
    flip: bool = False

    @property
    def is_strict(self) -> bool:
        """Whether images are processed as a server does."""
        return self == EvaluationMode()

    def __str__(self) -> str:
        parts = ["keep-aspect" if self.keep_aspect else "padded"]
        parts += [f"scales {', '.join(f'{scale:g}' for scale in self.scales)}"]
        return ", ".join([*parts, "flip"] if self.flip else parts)


def evaluate_in_mode(
    model: Path,
    annotations: Path,
    images: Path,
    mode: EvaluationMode,
    grouping: Path | None = None,
    limit: int | None = None,
) -> tuple[CocoMetrics, dict[str, Any]]:
    """COCO's ten numbers of a file in a mode, and a description of file, mode and thresholds.

    Args:
        model: a .keras file; strict evaluation takes .onnx, too.
        annotations: a COCO keypoints file.
        images: the folder of its images.
        mode: which views of an image are used.
        grouping: thresholds that `tools tune-grouping` wrote; None: the file's own.
        limit: only the first images, so many; None: all.

    Raises:
        ModeError: a mode that needs a .keras file.
        AnnotationError, FileError: the annotations are missing or of another skeleton.
        DatasetError: the images are missing.
    """
    if not mode.is_strict and model.suffix != ".keras":
        raise ModeError(
            f"{model}: expected a .keras file for {mode}, got one input size; evaluate best.keras"
            " of `tools train`"
        )
    predict, spec, artifact = open_predictor(model)
    if grouping is not None:
        spec = replace(spec, grouping=read_grouping(grouping))
    records = read_coco(annotations, images, spec.skeleton, limit)
    if mode.is_strict:
        found = find_people(predict, records, spec)
    else:
        from bodypose_tools.networks.keras_files import load_network

        run = field_network(load_network(model)[0])
        found = find_people_in_mode(run, field_decoder(spec), records, spec, mode)
    found = with_progress(found, len(records), model.name)
    metrics = metrics_of(found, spec, annotations, [record.image_id for record in records])
    described = {"sha256": artifact.sha256, "mode": str(mode), "grouping": asdict(spec.grouping)}
    return metrics, described


def find_people_in_mode(
    run: FieldNetwork,
    decode: Decoder,
    records: Sequence[ImageRecord],
    spec: PipelineSpec,
    mode: EvaluationMode,
) -> Iterator[tuple[ImageRecord, Poses]]:
    """The people of every image, in order, one image at a time."""
    for record in records:
        fields, frame = _mean_view(run, record, spec, mode)
        peaks, limb_scores = decode(fields, frame.network_hw)
        yield record, people_in_image(peaks, limb_scores, frame.letterbox.to_geometry(), spec)


def view_hw(
    image_hw: tuple[int, int], network_hw: tuple[int, int], mode: EvaluationMode, scale: float
) -> tuple[int, int]:
    """H, W of the network's input for one view: multiples of 32 unless it is the spec's own.

    Keep-aspect: the image's shorter side is as long as the shorter side of `network_hw`, and the
    other as long as it needs to be.
    """
    height, width = (float(side) for side in network_hw)
    if mode.keep_aspect:
        zoom = min(network_hw) / min(image_hw)
        height, width = image_hw[0] * zoom, image_hw[1] * zoom
    elif scale == 1:
        return network_hw
    rows, columns = (
        max(1, -(-round(side * scale) // _MULTIPLE)) * _MULTIPLE for side in (height, width)
    )
    return rows, columns


def _mean_view(
    run: FieldNetwork, record: ImageRecord, spec: PipelineSpec, mode: EvaluationMode
) -> tuple[Fields, Frame]:
    """The mean of all views, in the frame of the largest."""
    views: list[tuple[Fields, Frame]] = []
    for scale in sorted(mode.scales, reverse=True):
        network_hw = view_hw(record.image_hw, spec.network_hw, mode, scale)
        pixels, letterbox = network_view(record, network_hw, spec.limits)
        frame = Frame(network_hw, letterbox)
        views.append((last_stage(run(pixels[None])), frame))
        if mode.flip:
            mirrored = last_stage(run(np.ascontiguousarray(pixels[None, :, ::-1])))
            views.append((unmirrored(mirrored, spec.skeleton), frame))
    largest = views[0][1]
    return mean_fields([in_frame(fields, frame, largest) for fields, frame in views]), largest


def field_network(network: keras.Model) -> FieldNetwork:
    """A network's own outputs, for any input size; each new size compiles once."""
    import keras

    @lru_cache(maxsize=64)
    def sized(network_hw: tuple[int, int]) -> keras.Model:
        # With fixed sides: TensorFlow would else compile the second size for all sizes at once,
        # which the pyramid's upsampling does not allow.
        pixels = keras.Input((*network_hw, 3), dtype="uint8")
        return keras.Model(pixels, network(pixels, training=False))

    def run(pixels: NDArray[np.uint8]) -> list[Floats]:
        outputs = sized(pixels.shape[1:3]).predict_on_batch(pixels)
        return [np.asarray(output) for output in outputs]

    return run


def field_decoder(spec: PipelineSpec) -> Decoder:
    """The decoding layers, built once per size of fields."""
    import keras

    from bodypose_tools.networks.decoding import DecodeSettings, decode_fields

    settings = DecodeSettings(max_peaks=spec.max_peaks)

    @lru_cache(maxsize=64)
    def built(shapes: tuple[tuple[int, ...], ...], network_hw: tuple[int, int]) -> keras.Model:
        inputs = [keras.Input(shape) for shape in shapes]
        fields = Fields((inputs[0],), (inputs[1],), *inputs[2:])
        return keras.Model(inputs, list(decode_fields(fields, spec.skeleton, settings, network_hw)))

    def decode(fields: Fields, network_hw: tuple[int, int]) -> tuple[Floats, Floats]:
        parts: list[Any] = [fields.heatmaps[0], fields.affinity[0]]
        parts += [part for part in (fields.centre, fields.offsets) if part is not None]
        model = built(tuple(part.shape for part in parts), network_hw)
        peaks, limb_scores = model.predict_on_batch([part[None] for part in parts])
        return np.asarray(peaks)[0], np.asarray(limb_scores)[0]

    return decode
