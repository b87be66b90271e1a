"""Offline inference: people in image files, found by a model in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bodypose_client.files.image_sources import image_files
from bodypose_client.files.picture_file import write_picture
from bodypose_client.formats import DISPLAY_MIN_SCORE, ImageInfo, ServedModel, image_record
from bodypose_client.pictures.drawing import draw_poses
from bodypose_client.progress import with_progress
from bodypose_tools.files.json_records import write_record
from bodypose_tools.runtimes.people import people_in
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.images import decode_image
from pose_runtime.poses import Poses
from pose_runtime.spec import PipelineSpec

DETECTIONS = "detections.json"


def infer_files(
    model: Path,
    images: Sequence[str],
    out: Path,
    *,
    draw: Callable[[Path, bytes, Poses, PipelineSpec], None] | None,
    complain: Callable[[str], None],
) -> int:
    """Write `detections.json`, a list of `bodypose/1` records, and pictures where `draw` is given.

    Args:
        model: a .keras or .onnx file.
        images: files, folders and patterns.
        out: folder to write to.
        draw: makes one image's picture from its path in `out`, bytes and people.
        complain: gets a line for each image that cannot be read; the others are still processed.

    Returns:
        How many images could not be read.
    """
    predict, spec, artifact = open_predictor(model)
    described = ServedModel(model.name, artifact.stage, artifact.sha256)
    records: list[dict[str, Any]] = []
    files = image_files(images)
    for found in with_progress(people_in(files, predict, spec), len(files), "images"):
        if found.poses is None or found.image_hw is None:
            complain(f"{found.name}: {found.error}")
            continue
        poses, (height, width) = found.poses.above(DISPLAY_MIN_SCORE), found.image_hw
        records.append(image_record(poses, ImageInfo(found.name, width, height), described, {}))
        if draw is not None:
            draw(out / "images_annotated" / found.name, found.data, poses, spec)
    write_record(out / DETECTIONS, records)
    return len(files) - len(records)


def draw_picture(path: Path, data: bytes, poses: Poses, spec: PipelineSpec) -> None:
    """The image with its people, at `path`."""
    write_picture(path, draw_poses(decode_image(data, spec.limits), poses, spec.skeleton))
