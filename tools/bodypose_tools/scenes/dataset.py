"""A COCO-format set of drawn people: pictures, keypoints, boxes and areas."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from bodypose_client.files.picture_file import write_picture
from bodypose_client.progress import with_progress
from bodypose_tools.files.json_records import write_record
from pose_runtime.skeleton import BODYPOSE_18

from .backdrops import hall, park
from .body import Body, Hair, Look
from .picture import Camera, Picture, draw_people
from .stances import STANCES, Stance

ANNOTATIONS: Final = "people.json"
_SIZE = (384, 288)
_FOCAL_PX = 460.0
_MOST_PEOPLE = 3
_GAP_M = 0.85  # between neighbours, so that most joints are seen
_SKINS: Final = ((235, 190, 160), (224, 172, 140), (178, 120, 84), (150, 98, 66), (110, 70, 48))
_HAIRS: Final = ((20, 18, 18), (60, 38, 22), (120, 80, 40), (170, 130, 70), (130, 130, 130))
_PIXEL_CENTRE = 0.5  # COCO's first pixel has its centre at 0, ours at 0.5
_BORDER = 0.06  # of a person's box around the keypoints


def draw_dataset(folder: Path, count: int, *, seed: int) -> Path:
    """Draw `count` pictures with one to three people each, and their annotations.

    The picture of a number depends on seed and number only: a larger set begins with a smaller.

    Args:
        folder: gets `people.json` and the pictures, `000001.jpg` and so on.
        count: of pictures.
        seed: another seed draws other people.

    Returns:
        The annotations.

    Raises:
        DiskError: the folder cannot be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in with_progress(range(1, count + 1), count, "pictures"):
        picture = _random_picture(seed, number)
        name = f"{number:06}.jpg"
        write_picture(folder / name, picture.pixels)
        width, height = _SIZE
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for keypoints, area in zip(picture.keypoints, picture.areas, strict=True):
            if (keypoints[:, 2] > 0).any():
                entry = _annotation(keypoints, float(area))
                annotations.append({"id": len(annotations) + 1, "image_id": number, **entry})
    path = folder / ANNOTATIONS
    category = {"id": 1, "name": "person", "keypoints": list(BODYPOSE_18.annotated_joints)}
    write_record(path, {"images": images, "annotations": annotations, "categories": [category]})
    return path


def _random_picture(seed: int, number: int) -> Picture:
    rng = np.random.default_rng((seed, number))
    people = int(rng.integers(1, _MOST_PEOPLE + 1))
    away = float(rng.uniform(4.2, 6.5))
    middle = (np.arange(people) - (people - 1) / 2) * _GAP_M * rng.uniform(1, 1.3)
    bodies = [
        Body(
            (float(x + rng.uniform(-0.1, 0.1)), float(-away - rng.uniform(0, 1))),
            _random_stance(rng),
            _random_look(rng),
            float(rng.normal(0, 25)),
            float(rng.uniform(1.5, 1.9)),
        )
        for x in middle
    ]
    camera = Camera(_SIZE, _FOCAL_PX, 1.3, float(rng.uniform(-0.09, -0.04)))
    backdrop = (park, hall)[int(rng.integers(2))]
    return draw_people(bodies, camera, backdrop, seed=int(rng.integers(2**31)), fineness=1)


def _random_stance(rng: np.random.Generator) -> Stance:
    name = list(STANCES)[int(rng.integers(len(STANCES)))]
    return {
        limb: value
        if isinstance(value, float)
        else tuple((np.asarray(value) + rng.normal(0, 0.08, 3)).tolist())
        for limb, value in STANCES[name].items()
    }


def _random_look(rng: np.random.Generator) -> Look:
    def colour(low: int, high: int) -> tuple[int, int, int]:
        red, green, blue = rng.integers(low, high, 3).tolist()
        return red, green, blue

    return Look(
        skin=_SKINS[int(rng.integers(len(_SKINS)))],
        shirt=colour(40, 250),
        trousers=colour(30, 130),
        hair=_HAIRS[int(rng.integers(len(_HAIRS)))],
        stripes=colour(40, 250) if rng.random() < 0.3 else None,
        sleeve=float(rng.choice([0.3, 0.55, 1.85])),
        trouser=float(rng.choice([0.75, 1.9])),
        hairstyle=list(Hair)[int(rng.integers(len(Hair)))],
    )


def _annotation(keypoints: np.ndarray[Any, Any], area: float) -> dict[str, Any]:
    labelled = keypoints[:, 2] > 0
    places = keypoints[labelled, :2] - _PIXEL_CENTRE
    margin = np.ptp(places, axis=0).max() * _BORDER
    low = np.maximum(places.min(axis=0) - margin, 0)
    high = np.minimum(places.max(axis=0) + margin, np.asarray(_SIZE) - 1)
    rows = keypoints.astype(float).copy()
    rows[labelled, :2] = places
    return {
        "category_id": 1,
        "iscrowd": 0,
        "num_keypoints": int(labelled.sum()),
        "keypoints": rows.round(2).ravel().tolist(),
        "bbox": [*low.round(2).tolist(), *(high - low).round(2).tolist()],
        "area": area,
    }
