"""COCO keypoint files: one schema, the person category and its keypoints by name, one line a fault.

Training, evaluation, sampling, tuning and the client read annotations here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bodypose_client.errors import AnnotationError
from pose_runtime.skeleton import Skeleton

from .json_file import read_json

PERSON_CATEGORY = 1  # as COCO numbers it; a file may have another number
# Centre of the first pixel in our frame; in COCO's it is 0.
PIXEL_CENTRE = np.float32(0.5)

Annotations = Path | Mapping[str, Any]

_PERSON_NAMES = ("person", "people", "human", "pedestrian")
_MOST = 1e6  # pixels: no coordinate or side of an image is larger
_MOST_AREA = 1e10  # square pixels; pycocotools ignores larger people
_PARTS = ("images", "annotations", "categories")
_MISSING = object()


def load_coco(annotations: Annotations) -> dict[str, Any]:
    """A COCO keypoint file's images and people, each field checked and of one type.

    Only people are kept: annotations of the person category, which is found by its name, or is the
    only one with keypoints. It has number 1 in what is returned. What other tools write and has
    one meaning is understood: numbers as text, whole numbers as 1.0, `iscrowd` null or false,
    keypoints without `num_keypoints`, the same image twice, no position where visibility is 0.

    Args:
        annotations: a file, or its content. Of content, images may be ids only.

    Returns:
        images: id, file_name, height, width.
        annotations: id, image_id, category_id, iscrowd, num_keypoints, keypoints, bbox, area.
        categories: the person's: id, name, and keypoints where the file names them.

    Raises:
        FileError: it cannot be read.
        AnnotationError: it is not JSON, or an entry is wrong; the message names file, entry and
            field. A file without any person who has labelled joints is refused, too.
    """
    is_file = isinstance(annotations, Path)
    schema = _Schema(str(annotations) if is_file else "annotations")
    content: Any = annotations
    if isinstance(annotations, Path):
        content = read_json(annotations, "a COCO annotations file", nan=True)
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(part), list) for part in _PARTS
    ):
        got = sorted(map(str, content)) if isinstance(content, Mapping) else _shown(content)
        raise AnnotationError(
            f"{schema.name}: expected lists `images`, `annotations` and `categories`, got"
            f" {str(got)[:200]}"
        )
    person, others = schema.person_category(content["categories"])
    names = person.get("keypoints")
    images = schema.images(content["images"], is_file)
    people = schema.people(content["annotations"], person["id"], others, names)
    if is_file and not any(each["num_keypoints"] and not each["iscrowd"] for each in people):
        raise AnnotationError(
            f"{schema.name}: annotations: expected a {person['name']} with labelled keypoints, got"
            f" none in {len(content['annotations'])} annotations"
        )
    return {
        "images": images,
        "annotations": people,
        "categories": [{**person, "id": PERSON_CATEGORY}],
    }


def people_of(
    annotations: Annotations, skeleton: Skeleton, name: str = "", advice: str = ""
) -> dict[str, Any]:
    """`load_coco`, with keypoints in the order of the skeleton's annotated joints.

    Keypoints are matched by name where the file names them: capitals, spaces and hyphens do not
    matter. Joints that the file does not name have no labels, as the feet in COCO's. Without names
    they must be as many, and are in the skeleton's order.

    Args:
        annotations: a file, or its content.
        skeleton: its annotated joints are expected.
        name: of the file, for the message, where only its content is given.
        advice: end of the message, what to do about it.

    Raises:
        FileError, AnnotationError: as `load_coco`, or keypoints of another skeleton.
    """
    content = load_coco(annotations)
    name = name or (str(annotations) if isinstance(annotations, Path) else "annotations")
    (category,) = content["categories"]
    wanted = skeleton.annotated_joints
    names = category.get("keypoints", list(wanted))
    plain = [_plain(each) for each in names]
    if not set(plain) <= set(map(_plain, wanted)) or len(set(plain)) != len(plain):
        raise AnnotationError(
            f"{name}: expected keypoints {', '.join(wanted)} of skeleton {skeleton.name}, got"
            f" {', '.join(names)[:500]}{advice}"
        )
    place = {joint: row for row, joint in enumerate(plain)}
    order = [place.get(_plain(joint), len(plain)) for joint in wanted]
    for person in content["annotations"]:
        keypoints = person["keypoints"]
        if len(keypoints) != 3 * len(names):
            raise AnnotationError(
                f"{name}: annotation {person['id']}: keypoints: expected {len(names)} keypoints of"
                f" skeleton {skeleton.name}, got {len(keypoints) / 3:g}{advice}"
            )
        if order != list(range(len(names))):
            rows = [*np.reshape(keypoints, (-1, 3)), np.zeros(3)]
            person["keypoints"] = np.stack([rows[row] for row in order]).ravel().tolist()
    content["categories"] = [{**category, "keypoints": list(wanted)}]
    return content


class _Schema:
    """What each field must be; `name` is the file's, for messages."""

    def __init__(self, name: str) -> None:
        self.name = name

    def person_category(
        self, categories: Sequence[Any]
    ) -> tuple[dict[str, Any], frozenset[int | str]]:
        """The category of people, and the ids of the others."""
        read: list[dict[str, Any]] = []
        for index, category in enumerate(categories):
            where = f"categories[{index}]"
            self._object(category, where)
            entry: dict[str, Any] = {
                "id": self._id(category, "id", where),
                "name": self._text(category.get("name") or "person", f"{where}.name"),
            }
            names = category.get("keypoints")
            if names:
                if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
                    self._refuse(f"{where}.keypoints", "a list of names", names)
                if len({_plain(each) for each in names}) != len(names):
                    self._refuse(f"{where}.keypoints", "names that differ", names)
                entry["keypoints"] = names
            read.append(entry)
        named = [each for each in read if _plain(each["name"]) in _PERSON_NAMES]
        candidates = named or read
        if len(candidates) > 1:
            candidates = [each for each in candidates if "keypoints" in each]
        if len(candidates) != 1:
            raise AnnotationError(
                f"{self.name}: categories: expected one named person with keypoints, got"
                f" {', '.join(each['name'] for each in read)[:200] or 'none'}"
            )
        person = candidates[0]
        others = frozenset(each["id"] for each in read if each is not person)
        if person["id"] in others:
            raise AnnotationError(
                f"{self.name}: categories: expected ids that differ, got {person['id']} twice"
            )
        return person, others

    def images(self, images: Sequence[Any], complete: bool) -> list[dict[str, Any]]:
        """Each image once."""
        read: dict[int, dict[str, Any]] = {}
        for index, image in enumerate(images):
            where = f"images[{index}]"
            self._object(image, where)
            entry: dict[str, Any] = {"id": self._number(image, "id", where)}
            if complete or "file_name" in image:
                entry["file_name"] = self._text(image.get("file_name"), f"{where}.file_name")
            for side in ("height", "width"):
                if complete or side in image:
                    length = _whole(image.get(side))
                    if length is None or not 0 < length <= _MOST:
                        self._refuse(f"{where}.{side}", "a number of pixels", image.get(side))
                    entry[side] = length
            if read.setdefault(entry["id"], entry) != entry:
                raise AnnotationError(
                    f"{self.name}: {where}.id: expected ids that differ, got {entry['id']} twice"
                )
        return list(read.values())

    def people(
        self,
        annotations: Sequence[Any],
        person: int | str,
        others: frozenset[int | str],
        names: Sequence[str] | None,
    ) -> list[dict[str, Any]]:
        """The annotations of the category `person`."""
        people = []
        for index, annotation in enumerate(annotations):
            where = f"annotations[{index}]"
            self._object(annotation, where)
            category = person
            if "category_id" in annotation:
                category = self._id(annotation, "category_id", where)
            if category in others:
                continue
            if category != person:
                self._refuse(
                    f"{where}.category_id", "the id of a category", annotation["category_id"]
                )
            people.append(self._person(annotation, index, where, names))
        return people

    def _person(
        self, annotation: Mapping[str, Any], index: int, where: str, names: Sequence[str] | None
    ) -> dict[str, Any]:
        own = annotation.get("id")
        crowd = annotation.get("iscrowd")
        is_crowd = int(crowd) if isinstance(crowd, bool) else _whole(crowd or 0)
        if is_crowd not in (0, 1):
            self._refuse(f"{where}.iscrowd", "0 or 1", crowd)
        count = self._count(annotation.get("num_keypoints"), f"{where}.num_keypoints")
        needs = not is_crowd and count != 0
        keypoints = self._keypoints(annotation, f"{where}.keypoints", names, needs)
        visible = sum(visibility > 0 for visibility in keypoints[2::3])
        if count is None or not visible:
            count = visible
        box = self._numbers(annotation.get("bbox"), f"{where}.bbox", "x, y, width and height")
        if len(box) != 4:
            self._refuse(f"{where}.bbox", "x, y, width and height", annotation["bbox"])
        area = annotation.get("area", _MISSING)
        if area is _MISSING and (is_crowd or not count):
            area = abs(box[2] * box[3])
        known = _array([area])
        if known is None or not 0 <= known[0] <= _MOST_AREA:
            self._refuse(f"{where}.area", "square pixels", area)
        return {
            "id": own if type(own) in (int, str) else index + 1,
            "image_id": self._number(annotation, "image_id", where),
            "category_id": PERSON_CATEGORY,
            "iscrowd": is_crowd,
            "num_keypoints": count,
            "keypoints": keypoints,
            "bbox": box,
            "area": float(known[0]),
        }

    def _count(self, value: Any, where: str) -> int | None:
        if value is None:
            return None
        count = _whole(value)
        if count is None or count < 0:
            self._refuse(where, "a number of keypoints", value)
        return count

    def _keypoints(
        self, annotation: Mapping[str, Any], where: str, names: Sequence[str] | None, needs: bool
    ) -> list[float]:
        """x, y and visibility of each keypoint; all 0 for a person without any."""
        given = annotation.get("keypoints")
        expected = f"{len(names)} times x, y, visibility" if names else "x, y, visibility of each"
        if not given and (given is None or isinstance(given, list)):
            if needs and annotation.get("num_keypoints"):
                self._refuse(where, expected, given)
            return [0.0] * (3 * len(names) if names else 0)
        array = _array(given)
        if array is None or len(array) % 3 or (names and len(array) != 3 * len(names)):
            self._refuse(where, expected, given)
        rows = array.reshape(-1, 3)
        if not np.isin(rows[:, 2], (0, 1, 2)).all():
            wrong = rows[~np.isin(rows[:, 2], (0, 1, 2)), 2]
            self._refuse(where, "visibility 0, 1 or 2", float(wrong[0]))
        absent = rows[:, 2] == 0
        rows[absent] = np.where(np.isfinite(rows[absent]), rows[absent], 0)
        if not (np.abs(rows) < _MOST).all():
            wrong = rows[~(np.abs(rows) < _MOST).all(axis=1)][0]
            self._refuse(where, "finite positions in pixels", wrong.tolist())
        flat: list[float] = rows.ravel().tolist()
        return flat

    def _numbers(self, value: Any, where: str, expected: str) -> list[float]:
        array = _array(value)
        if array is None or not (np.abs(array) <= _MOST).all():
            self._refuse(where, expected, value)
        numbers: list[float] = array.tolist()
        return numbers

    def _number(self, entry: Mapping[str, Any], key: str, where: str) -> int:
        number = _whole(entry.get(key, _MISSING))
        if number is None:
            self._refuse(f"{where}.{key}", "a number", entry.get(key, _MISSING))
        return number

    def _id(self, entry: Mapping[str, Any], key: str, where: str) -> int | str:
        value = entry.get(key, _MISSING)
        number = _whole(value)
        if number is not None:
            return number
        if not isinstance(value, str) or not value:
            self._refuse(f"{where}.{key}", "a number or a name", value)
        return value

    def _text(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value:
            self._refuse(where, "a name", value)
        return value

    def _object(self, value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            self._refuse(where, "an object", value)

    def _refuse(self, where: str, expected: str, got: Any) -> NoReturn:
        raise AnnotationError(f"{self.name}: {where}: expected {expected}, got {_shown(got)}")


def _plain(name: str) -> str:
    """A name without what tools spell differently: Left-Eye, left eye, left_eye."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def _whole(value: Any) -> int | None:
    """A whole number, also as text or as 1.0; None for anything else."""
    if isinstance(value, str) and len(value) < 20 and value.lstrip("-").isascii():
        value = int(value) if value.lstrip("-").isdigit() and value.count("-") < 2 else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        return None
    return value


def _array(value: Any) -> NDArray[np.float64] | None:
    """A list of numbers, null as NaN; None for anything else."""
    if not isinstance(value, list):
        return None
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if array.ndim == 1 else None


def _shown(value: Any) -> str:
    """A value in a message of one line: short, whatever it is."""
    if value is _MISSING:
        return "nothing"
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return f"an object of {len(value)} fields"
    if isinstance(value, list) and (
        len(value) > 4 or any(isinstance(each, list | Mapping) for each in value)
    ):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > 2**63:
        return "a larger number"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
