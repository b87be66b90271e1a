"""The comparison of two models on the same images: their outputs, and the places of joints."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.photos import images_in, packaged_images
from bodypose_tools.files.artifacts import sha256_of
from bodypose_tools.runtimes.peaks import peak_gaps
from bodypose_tools.runtimes.predictors import open_predictor
from pose_runtime.errors import PoseError
from pose_runtime.spec import PipelineSpec

from .gate import peak_agreement
from .polygraphy_files import RunnerOutputs, load_inputs, load_outputs, save_inputs, save_outputs

Floats = NDArray[np.float32]


class ComparisonError(PoseError):
    """Two models cannot be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutputs:
    """What a model predicts for some images."""

    name: str
    sha256: str
    peaks: Floats  # (B, J, P, 3)
    limb_scores: Floats  # (B, L, P, P)
    seconds: tuple[float, ...]  # of each image, run alone


def outputs_of(model: Path, images: NDArray[np.uint8]) -> tuple[ModelOutputs, PipelineSpec]:
    """Run a model on every image alone.

    Args:
        model: `.keras` or `.onnx` with decoding layers, or `.plan`.
        images: (B, H, W, 3) uint8, letterboxed to the model's input size.
    """
    predict, spec, artifact = open_predictor(model)
    parts, seconds = [], []
    for image in images:
        started = time.perf_counter()
        parts.append(predict(image[None]))
        seconds.append(time.perf_counter() - started)
    peaks, limb_scores = (np.concatenate(output) for output in zip(*parts, strict=True))
    return ModelOutputs(model.name, artifact.sha256, peaks, limb_scores, tuple(seconds)), spec


def pixels_for(model: Path, folder: Path | None, inputs: Path | None) -> NDArray[np.uint8]:
    """Images to compare on, (B, H, W, 3) uint8: a folder's, saved inputs, or a packaged photo.

    Raises:
        ComparisonError: the saved inputs are not this model's pixels.
    """
    spec = open_predictor(model)[1]
    if inputs is None:
        return images_in(folder, spec.network_hw) if folder else packaged_images(spec.network_hw)
    batches: list[NDArray[np.uint8]] = []
    for feed in load_inputs(inputs):
        batch = feed.get(spec.pixels.name, np.empty(0))
        if batch.dtype != np.uint8 or batch.shape[1:] != spec.pixels.dims:
            raise ComparisonError(
                f"{inputs}: expected `{spec.pixels.name}` uint8 (batch, {spec.pixels.dims}), got"
                f" {batch.dtype} {batch.shape}"
            )
        batches.append(batch)
    if not sum(map(len, batches)):
        raise ComparisonError(f"{inputs}: expected at least one image, got none")
    return np.concatenate(batches)


def save_pixels(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write images (B, H, W, 3) for `polygraphy run --load-inputs`, one iteration each."""
    save_inputs(path, [{PipelineSpec().pixels.name: image[None]} for image in pixels])


def saved_outputs(path: Path, spec: PipelineSpec) -> ModelOutputs:
    """The outputs of the last runner in a file that Polygraphy saved.

    Raises:
        PolygraphyFileError: it is not such a file.
        ComparisonError: the runner lacks the outputs of this pipeline.
    """
    runs = load_outputs(path)
    names = [spec.peaks.name, spec.limb_scores.name]
    if (
        not runs
        or not runs[-1].outputs
        or any(name not in outputs for outputs in runs[-1].outputs for name in names)
    ):
        raise ComparisonError(f"{path}: expected the outputs {' and '.join(names)} of a runner")
    run = runs[-1]
    peaks, limb_scores = (np.concatenate([o[name] for o in run.outputs]) for name in names)
    return ModelOutputs(run.runner, sha256_of(path), peaks, limb_scores, tuple(run.seconds))


def compare_models(one: Path, other: Path, images: NDArray[np.uint8]) -> ModelComparison:
    """Compare two models on the same images, or a model with outputs that were saved.

    Args:
        one: model file of the reference.
        other: model file with the same skeleton, input size and number of peaks; or a `.json` file
            of outputs that Polygraphy saved.
        images: (B, H, W, 3) uint8, letterboxed for `one`.

    Raises:
        ComparisonError: the tensors of the two models differ.
    """
    first, spec = outputs_of(one, images)
    if other.suffix == ".json":
        second = saved_outputs(other, spec)
    else:
        second, other_spec = outputs_of(other, images)
        contracts = [(s.pixels, s.peaks, s.limb_scores) for s in (spec, other_spec)]
        if contracts[0] != contracts[1]:
            raise ComparisonError(f"expected the tensors of {one}, got {other} with {contracts[1]}")
    for name in ("peaks", "limb_scores"):
        ours, theirs = (getattr(side, name).shape for side in (first, second))
        if ours != theirs:
            raise ComparisonError(f"{other}: expected {name} {ours}, got {theirs}")
    return ModelComparison(first, second, spec)


@dataclass(frozen=True, slots=True, eq=False)
class ModelComparison:
    """The outputs of two models for the same images; the first is the reference."""

    one: ModelOutputs
    other: ModelOutputs
    spec: PipelineSpec

    def record(self) -> dict[str, Any]:
        """Errors of outputs, and shifts of joints in network pixels, for JSON."""
        one, other, spec = self.one, self.other, self.spec
        threshold = spec.grouping.min_peak_score
        shifts = joint_shifts(one.peaks, other.peaks, threshold)
        return {
            "schema": "bodypose-comparison/1",
            "models": [{"name": side.name, "sha256": side.sha256} for side in (one, other)],
            "images": len(one.peaks),
            "outputs": {
                "peak scores": _errors(one.peaks[..., 2], other.peaks[..., 2]),
                spec.limb_scores.name: _errors(one.limb_scores, other.limb_scores),
            },
            "joints": {
                "compared": len(shifts),
                "agreement": peak_agreement(one.peaks, other.peaks, threshold),
                "shift_px": {
                    name: round(float(np.percentile(shifts, q)), 3) if len(shifts) else None
                    for name, q in (("median", 50), ("p95", 95), ("max", 100))
                },
            },
        }

    def save_outputs(self, path: Path) -> None:
        """Write both models' outputs as Polygraphy reads them."""
        names = (self.spec.peaks.name, self.spec.limb_scores.name)
        runs = []
        for side in (self.one, self.other):
            rows = zip(side.peaks[:, None], side.limb_scores[:, None], strict=True)
            outputs = [dict(zip(names, row, strict=True)) for row in rows]
            runs.append(RunnerOutputs(side.name, outputs, side.seconds))
        save_outputs(path, runs)


def joint_shifts(peaks: Floats, others: Floats, min_score: float) -> Floats:
    """Network pixels from each peak of (B, J, P, 3) to the other model's nearest: (N,).

    Where the other model has no peak of the joint, the peak is left out; agreement counts it.
    """
    gaps = peak_gaps(peaks, others)[peaks[..., 2] >= min_score]
    return gaps[np.isfinite(gaps)]


def _errors(ours: Floats, theirs: Floats) -> dict[str, float]:
    difference = np.abs(ours - theirs)
    return {"mean": round(float(difference.mean()), 6), "max": round(float(difference.max()), 6)}
