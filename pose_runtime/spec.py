"""Owns the wire contract: every tensor's name, dtype and dims, and the settings that travel.

`PipelineSpec` is written as `pipeline.json` into each Python model's version folder and as
metadata into every exported ONNX file; all tensor shapes derive from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError, SpecError
from .skeleton import BODYPOSE_18, Skeleton

IMAGE_FORMATS = ("JPEG", "PNG", "WebP", "BMP")
NUMPY_DTYPES = {
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
    "BYTES": np.object_,
}


_MOST = 1000  # people, peaks of a joint, joints: each is a side of a tensor that is reserved
_MOST_SIDE = 8192  # pixels of the network's input


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor on the wire. `dims` are without the batch dimension; dtypes are KServe v2's."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    is_optional: bool = field(default=False, compare=False)  # a request may leave the input out

    def check(self, array: NDArray[Any]) -> NDArray[Any]:
        """`array`, if it is a batch (B, *dims) of this tensor's dtype.

        Raises:
            ContractError: naming the tensor, what was expected and what came.
        """
        expected = f"{self.dtype} (batch, {', '.join(map(str, self.dims))})"
        if array.dtype != NUMPY_DTYPES[self.dtype]:
            raise ContractError(self.name, expected, f"{array.dtype} {array.shape}")
        if array.shape[1:] != self.dims:
            raise ContractError(self.name, expected, str(array.shape))
        return array


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the repository, in Triton's own vocabulary."""

    name: str
    backend: str  # "python", "onnxruntime", "openvino", "tensorrt"; "" for the ensemble
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int
    batches_requests: bool = False  # dynamic batching: requests that wait are taken together
    max_queue_delay_us: int = 0
    instances: int = 1
    warmup_files: tuple[str, ...] = ()  # inputs warmed up from a file; the others get zeros
    parameters: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[ModelSpec, ...] = ()  # of an ensemble, in order; tensors connect by name
    versions: tuple[int, ...] = (1,)  # folders that the server loads; one of an ensemble


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What the preprocess model accepts; checked before anything is decoded.

    max_bytes: of the request's image, base64 or not.
    max_pixels: height x width.
    max_decode_ms: of one core, estimated from format, pixels, bytes and scans.
    formats: of `IMAGE_FORMATS`.
    """

    max_bytes: int = 16 * 2**20
    max_pixels: int = 40_000_000
    max_decode_ms: int = 500
    formats: tuple[str, ...] = IMAGE_FORMATS

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_decode_ms"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SpecError(f"{name}: expected at least 1, got {value!a:.60}")
        if not self.formats or not set(self.formats) <= set(IMAGE_FORMATS):
            raise SpecError(
                f"formats: expected some of {', '.join(IMAGE_FORMATS)}, got"
                f" {', '.join(self.formats) or 'none'}"
            )


@dataclass(frozen=True, slots=True)
class GroupingSettings:
    """Thresholds of grouping; chosen on training images, see docs/training.md."""

    min_peak_score: float = 0.1  # heatmap value below which a peak is no joint
    min_limb_score: float = 0.05  # part affinity score below which two peaks are not joined
    min_joints: int = 2  # people with fewer joints are dropped

    def __post_init__(self) -> None:
        for name in ("min_peak_score", "min_limb_score"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise SpecError(f"{name}: expected a number from 0 to 1, got {value!a:.60}")
        if type(self.min_joints) is not int or not 0 <= self.min_joints <= _MOST:
            raise SpecError(
                f"min_joints: expected an integer from 0 to {_MOST}, got {self.min_joints!a:.60}"
            )


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """Everything that preprocess, network and grouping must agree on."""

    skeleton: Skeleton = BODYPOSE_18
    network_hw: tuple[int, int] = (288, 384)
    max_peaks: int = 20
    max_people: int = 20
    limits: ImageLimits = ImageLimits()
    grouping: GroupingSettings = GroupingSettings()
    model_sha256: str = ""

    def __post_init__(self) -> None:
        if any(side <= 0 or side % 8 for side in self.network_hw):
            raise SpecError(f"network_hw: expected multiples of 8, got {self.network_hw}")
        if max(self.network_hw) > _MOST_SIDE:
            raise SpecError(
                f"network_hw: expected at most {_MOST_SIDE} pixels, got {self.network_hw}"
            )
        if not (1 <= self.max_peaks <= _MOST and 1 <= self.max_people <= _MOST):
            raise SpecError(
                f"max_peaks and max_people: expected at least 1 and at most {_MOST}, got"
                f" {self.max_peaks} and {self.max_people}"
            )

    @property
    def image(self) -> TensorSpec:
        """Request: the bytes of one image file, or their base64 text."""
        return TensorSpec("image", "BYTES", (1,))

    @property
    def pixels(self) -> TensorSpec:
        """Network input: RGB in 0..255, rows, columns, channels."""
        return TensorSpec("pixels", "UINT8", (*self.network_hw, 3))

    @property
    def encoded(self) -> TensorSpec:
        """In the place of `pixels` where a GPU decodes: what `card_jpeg` packs."""
        return TensorSpec("encoded", "BYTES", (1,))

    @property
    def geometry(self) -> TensorSpec:
        """The image's `Letterbox`: height, width, scale, x offset, y offset."""
        return TensorSpec("geometry", "FP32", (5,))

    @property
    def image_hw(self) -> TensorSpec:
        """Height and width; only for callers of preprocessing itself, see `passage.py`."""
        return TensorSpec("image_hw", "INT32", (2,))

    @property
    def place(self) -> TensorSpec:
        """The image's place among those under way, see `admission.Places`."""
        return TensorSpec("place", "INT64", (2,), is_optional=True)

    @property
    def peaks(self) -> TensorSpec:
        """Network output: x, y in network pixels and score of the peaks of each joint."""
        return TensorSpec("peaks", "FP32", (self.skeleton.num_joints, self.max_peaks, 3))

    @property
    def limb_scores(self) -> TensorSpec:
        """Network output: for each limb, the score of joining peak i with peak j."""
        dims = (self.skeleton.num_limbs, self.max_peaks, self.max_peaks)
        return TensorSpec("limb_scores", "FP32", dims)

    @property
    def keypoints(self) -> TensorSpec:
        """Answer: x, y in image pixels and score of each joint; rows of nobody are 0."""
        return TensorSpec("keypoints", "FP32", (self.max_people, self.skeleton.num_joints, 3))

    @property
    def scores(self) -> TensorSpec:
        """Answer: each person's score in 0..1, best first; rows of nobody are 0."""
        return TensorSpec("scores", "FP32", (self.max_people,))

    @property
    def num_people(self) -> TensorSpec:
        """Answer: how many rows of `keypoints` and `scores` are people."""
        return TensorSpec("num_people", "INT32", (1,))

    def with_model(self, sha256: str) -> PipelineSpec:
        """The same pipeline around another network, named by its sha256."""
        return replace(self, model_sha256=sha256)

    def with_limits(self, limits: ImageLimits, changes: Mapping[str, Any]) -> PipelineSpec:
        """With `limits`, but for `changes` (fields of `ImageLimits` and their values)."""
        return replace(self, limits=replace(limits, **changes))

    def to_json(self) -> str:
        """Deterministic text: same spec, same bytes."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> PipelineSpec:
        """The inverse of `to_json`.

        Raises:
            SpecError: `text` is no pipeline description.
        """
        try:
            raw = json.loads(text)
            height, width = raw["network_hw"]
            return cls(
                skeleton=Skeleton.from_json(raw["skeleton"]),
                network_hw=(int(height), int(width)),
                max_peaks=int(raw["max_peaks"]),
                max_people=int(raw["max_people"]),
                limits=_limits_from_json(raw["limits"]),
                grouping=GroupingSettings(**raw["grouping"]),
                model_sha256=str(raw["model_sha256"]),
            )
        except (
            *(KeyError, TypeError, ValueError, AttributeError),
            *(OverflowError, RecursionError, SpecError),
        ) as error:
            raise SpecError(
                f"pipeline description: expected what `tools export` writes, got {_short(error)};"
                " run `tools export` again"
            ) from error

    @classmethod
    def load(cls, path: Path) -> PipelineSpec:
        """The pipeline in a `pipeline.json` file; see `from_json`."""
        return cls.from_json(path.read_text())


def _short(error: Exception) -> str:
    return str(error)[:200] if isinstance(error, SpecError) else repr(error)[:200]


def _limits_from_json(raw: dict[str, Any]) -> ImageLimits:
    """Files of before `max_decode_ms` and `formats` get their defaults."""
    formats = tuple(raw.get("formats", IMAGE_FORMATS))
    return ImageLimits(**{**raw, "formats": formats})
