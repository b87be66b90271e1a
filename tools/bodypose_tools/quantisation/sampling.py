"""The choice of calibration images: an exact, stratified sample of an annotated set.

The sample keeps the set's proportions of people per image and of person size, because activations
depend on both. `manifest.json` in the output folder names every image with its sha256.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodypose_client.image_check import check_split
from bodypose_tools.data.coco import ImageRecord, read_coco
from bodypose_tools.files.artifacts import sha256_of
from bodypose_tools.files.json_records import write_record
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import BODYPOSE_18, Skeleton

MANIFEST = "manifest.json"
# Upper ends of the classes of an image: number of people, and height of the tallest in image
# heights. Larger values are one more class.
_PEOPLE_CLASSES = (1, 3)
_SIZE_CLASSES = (0.25, 0.5)


class CalibrationImagesError(PoseError):
    """Images cannot be sampled as asked."""


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """The size of a sample and the images that qualify; the defaults are TAO's."""

    num_images: int = 500
    min_people: int = 1  # per image, of those with `min_joints`
    min_joints: int = 5  # labelled joints with which a person counts
    seed: int | None = None  # None: the first images of every class, in the file's order


def sample_calibration_images(
    annotations: Path,
    images: Path,
    out: Path,
    settings: SamplingSettings,
    skeleton: Skeleton = BODYPOSE_18,
    *,
    check_images: bool = False,
) -> Path:
    """Copy exactly `num_images` images into an empty folder.

    Returns:
        The manifest, which is written last: a folder without one is not finished.

    Raises:
        CalibrationImagesError: `out` has files in it, or too few images qualify.
        AnnotationError, FileError: the annotations are no COCO keypoint file of this skeleton.
        DatasetError: an image is missing, or cannot be read.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CalibrationImagesError(
            f"{out}: expected an empty or new folder, got files there; give another -o"
        )
    check_split(annotations, images, decode=check_images)
    records = read_coco(annotations, images, skeleton)
    chosen = choose(records, settings, skeleton)
    files = {}
    for record in chosen:
        name = record.path.relative_to(images)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(record.path, out / name)
        files[name.as_posix()] = sha256_of(out / name)
    return _write_manifest(out, annotations, settings, files)


def choose(
    records: Sequence[ImageRecord], settings: SamplingSettings, skeleton: Skeleton
) -> list[ImageRecord]:
    """The sample in the order of `records`, with every class in proportion to within one image.

    Raises:
        CalibrationImagesError: fewer images qualify than the sample needs.
    """
    classes: dict[tuple[int, int], list[int]] = {}
    for index, record in enumerate(records):
        counted = _counted_people(record, settings, skeleton)
        if counted.sum() >= settings.min_people:
            classes.setdefault(_class_of(record, counted), []).append(index)
    qualifying = sum(map(len, classes.values()))
    if qualifying < settings.num_images:
        raise CalibrationImagesError(
            f"expected at least {settings.num_images} images with {settings.min_people} or more"
            f" people of {settings.min_joints} or more labelled joints, got {qualifying} of"
            f" {len(records)}; lower -n, -pth or -kth"
        )
    rng = None if settings.seed is None else np.random.default_rng(settings.seed)
    chosen: list[int] = []
    names = sorted(classes)
    shares = _shares([len(classes[name]) for name in names], settings.num_images)
    for name, share in zip(names, shares, strict=True):
        members = np.array(classes[name])
        order = members if rng is None else rng.permutation(members)
        chosen.extend(order[:share].tolist())
    return [records[index] for index in sorted(chosen)]


def _counted_people(
    record: ImageRecord, settings: SamplingSettings, skeleton: Skeleton
) -> NDArray[np.bool_]:
    """Whether each person has enough labelled joints: (N,). The neck, a midpoint, has no label."""
    labelled = (record.joints[:, list(skeleton.annotated), 2] > 0).sum(axis=1)
    return np.asarray(labelled >= settings.min_joints)


def _class_of(record: ImageRecord, counted: NDArray[np.bool_]) -> tuple[int, int]:
    tallest = float(record.boxes[counted, 3].max(initial=0.0)) / record.image_hw[0]
    people = int(np.searchsorted(_PEOPLE_CLASSES, int(counted.sum()), side="left"))
    return people, int(np.searchsorted(_SIZE_CLASSES, tallest, side="left"))


def _shares(sizes: Sequence[int], total: int) -> list[int]:
    """`total` split in proportion to `sizes`, by largest remainder; no share exceeds its size."""
    exact = np.array(sizes, np.float64) * total / max(sum(sizes), 1)
    shares = np.floor(exact).astype(int)
    for index in np.argsort(-(exact - shares), kind="stable")[: total - int(shares.sum())]:
        shares[index] += 1
    return [int(share) for share in shares]


def _write_manifest(
    out: Path, annotations: Path, settings: SamplingSettings, files: dict[str, str]
) -> Path:
    content = {
        "schema": "bodypose-calibration-images/1",
        "annotations": {"file": annotations.name, "sha256": sha256_of(annotations)},
        "settings": asdict(settings),
        "images": [{"file": name, "sha256": sha256} for name, sha256 in files.items()],
    }
    write_record(out / MANIFEST, content)
    return out / MANIFEST
