"""Accuracy gates: whether a graph of lower precision still finds the people of the float graph.

There are two: the share of joints of a few images that stay in place (fast, without labels), and
the COCO AP lost on a split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bodypose_client.progress import with_progress
from bodypose_tools.evaluation.offline import Split, evaluate_pool, pool
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.runtimes.peaks import peak_gaps
from bodypose_tools.runtimes.predictor import Predictor
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.runtimes.settings import GraphRuntime
from pose_runtime.errors import PoseError

from .settings import MAX_JOINT_SHIFT

# Peaks within this margin of grouping's threshold are compared by neither side.
_SCORE_MARGIN = 0.05

Floats = NDArray[np.float32]
Judge = Callable[[Path], "Verdict"]


class AccuracyGateError(PoseError):
    """A graph of lower precision does not find what the float graph finds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate measured, and its limit."""

    measure: str
    value: float
    limit: float
    passed: bool

    def __str__(self) -> str:
        return f"{self.measure} {self.value:.4f}, limit {self.limit:g}"


def peak_agreement(ours: Floats, theirs: Floats, min_score: float) -> float:
    """Share of clear peaks of either model that the other has within `MAX_JOINT_SHIFT`, in 0..1.

    Args:
        ours: peaks (B, J, P, 3) in network pixels.
        theirs: the other model's peaks, of the same images.
        min_score: threshold of grouping; a peak is clear when it exceeds this by a margin.

    Returns:
        1 when neither side has a clear peak.
    """
    kept = total = 0
    for one, other in ((ours, theirs), (theirs, ours)):
        clear = one[..., 2] >= min_score + _SCORE_MARGIN
        kept += int((clear & (peak_gaps(one, other) <= MAX_JOINT_SHIFT)).sum())
        total += int(clear.sum())
    return kept / total if total else 1.0


def peak_loss(ours: Floats, theirs: Floats, min_score: float) -> float:
    """Mean loss of the clear peaks of either model against the other, in 0..1.

    A peak loses 1 - exp(-(d / s)^2 / 2), where d is the way to the nearest peak of the other model
    and s half of `MAX_JOINT_SHIFT`: as COCO's OKS does, it feels shifts that `peak_agreement`,
    a count, does not.
    """
    lost = total = 0.0
    for one, other in ((ours, theirs), (theirs, ours)):
        clear = one[..., 2] >= min_score + _SCORE_MARGIN
        shifts = peak_gaps(one, other)[clear] / (MAX_JOINT_SHIFT / 2)
        lost += float((1 - np.exp(-0.5 * shifts**2)).sum())
        total += shifts.size
    return lost / total if total else 0.0


def peaks_of(predict: Predictor, images: Iterable[NDArray[np.uint8]]) -> Floats:
    """Peaks (B, J, P, 3) of images (H, W, 3), predicted one by one."""
    return np.concatenate([predict(image[None])[0] for image in images])


def peaks_against(
    float_model: Path,
    images: NDArray[np.uint8],
    runtime: GraphRuntime,
    measure: Callable[[Floats, Floats, float], float] = peak_agreement,
) -> Callable[[Path], float]:
    """A function that measures a graph's peaks against those of the float graph.

    Args:
        float_model: the graph whose peaks are expected.
        images: (B, H, W, 3) uint8.
        runtime: runs both graphs.
        measure: `peak_agreement` or `peak_loss`.
    """
    predict, spec, _ = open_predictor(float_model, runtime)
    expected = peaks_of(predict, with_progress(images, len(images), "joints of the float graph"))

    def measured(candidate: Path) -> float:
        got = peaks_of(open_predictor(candidate, runtime)[0], images)
        return measure(expected, got, spec.grouping.min_peak_score)

    return measured


def agreement_judge(
    float_model: Path, images: NDArray[np.uint8], limit: float, runtime: GraphRuntime
) -> Judge:
    """A gate for the share of joints in `images` (B, H, W, 3) that stay: at least `limit`."""
    agreement = peaks_against(float_model, images, runtime)

    def judge(candidate: Path) -> Verdict:
        share = agreement(candidate)
        return Verdict("share of joints that stay", share, limit, share >= limit)

    return judge


def ap_judge(
    float_model: Path, splits: Sequence[Split], limit: float, runtime: GraphRuntime
) -> Judge:
    """A gate for the AP that a graph loses against the float graph: at most `limit`."""
    predict, spec, _ = open_predictor(float_model, runtime.in_float32)
    images = pool(splits, spec.skeleton)
    expected = evaluate_pool(predict, spec, images, progress=float_model.name).numbers["AP"]

    def judge(candidate: Path) -> Verdict:
        predict = open_predictor(candidate, runtime)[0]
        got = evaluate_pool(predict, spec, images, progress=candidate.name)
        drop = expected - got.numbers["AP"]
        return Verdict(f"AP drop from {expected:.4f}", drop, limit, drop <= limit)

    return judge


def first_miss(judges: list[Judge], candidate: Path) -> list[Verdict]:
    """The verdicts in order, up to the first that did not pass, inclusive."""
    verdicts = []
    for judge in judges:
        verdicts.append(judge(candidate))
        if not verdicts[-1].passed:
            break
    return verdicts


def compare_ap(
    float_model: Path,
    candidate: Path,
    splits: Sequence[Split],
    limit: float,
    runtime: GraphRuntime = GraphRuntime.ONNX_RUNTIME,
) -> dict[str, Any]:
    """Both models' ten COCO numbers, and the verdict on the AP lost, as a record for JSON.

    The float model always computes in float32, because bfloat16 may lose AP, too.
    """
    images = None
    sides: dict[str, Any] = {}
    for role, path, by in (
        ("float", float_model, runtime.in_float32),
        ("candidate", candidate, runtime),
    ):
        predict, spec, artifact = open_predictor(path, by)
        images = images or pool(splits, spec.skeleton)
        metrics = evaluate_pool(predict, spec, images, progress=path.name)
        sides[role] = {"model": _named(artifact), "metrics": metrics.numbers}
        if artifact.settings.get("data_type") == "int8":
            sides[role]["settings"] = dict(artifact.settings)  # what makes the graph again
    drop = sides["float"]["metrics"]["AP"] - sides["candidate"]["metrics"]["AP"]
    verdict = Verdict("AP drop", drop, limit, drop <= limit)
    record: dict[str, Any] = {
        "schema": "bodypose-gate/1",
        "split": " + ".join(map(str, splits)),
        "runtime": str(runtime),
    }
    return {**record, **sides, "verdict": asdict(verdict)}


def _named(artifact: Artifact) -> dict[str, str]:
    return {"name": artifact.path.name, "sha256": artifact.sha256}
