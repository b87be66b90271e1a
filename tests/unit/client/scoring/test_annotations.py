import copy
import json
from pathlib import Path

import pytest

from bodypose_client.errors import AnnotationError, FileError
from bodypose_client.scoring.annotations import load_coco, people_of
from pose_runtime.skeleton import BODYPOSE_18

NAMES = list(BODYPOSE_18.annotated_joints)
KEYPOINTS = [number for joint in range(17) for number in (40 + 4 * joint, 20 + 5 * joint, 2)]


def base():
    """One image with one person."""
    return {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 120, "width": 160}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [30, 10, 90, 100],
                "area": 5000.0,
                "iscrowd": 0,
                "num_keypoints": 17,
                "keypoints": list(KEYPOINTS),
            }
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES}],
    }


def saved(tmp_path: Path, content) -> Path:
    (tmp_path / "people.json").write_text(json.dumps(content))
    return tmp_path / "people.json"


def changed(part: str, **fields):
    content = base()
    content[part][0].update(fields)
    return content


def test_files_that_are_no_annotations_are_named(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        load_coco(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(AnnotationError, match="expected JSON"):
        load_coco(tmp_path / "text.json")


def test_what_is_read_reads_as_itself(tmp_path):
    content = load_coco(saved(tmp_path, base()))
    assert load_coco(content) == content
    assert content["annotations"][0]["keypoints"] == KEYPOINTS


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        ("images", {"id": "1", "height": "120", "width": 160.0}),
        ("annotations", {"image_id": "1"}),
        ("annotations", {"category_id": "1"}),
        ("annotations", {"iscrowd": None}),
        ("annotations", {"iscrowd": False}),
        ("annotations", {"num_keypoints": None}),
        ("annotations", {"segmentation": {"counts": [1], "size": [120, 160]}}),
        ("annotations", {"keypoints": [str(number) for number in KEYPOINTS]}),
        ("categories", {"name": "Person", "keypoints": [n.replace("_", "-") for n in NAMES]}),
        ("categories", {"name": "hand"}),
    ],
)
def test_what_has_one_meaning_is_understood(tmp_path, part, fields):
    (person,) = people_of(saved(tmp_path, changed(part, **fields)), BODYPOSE_18)["annotations"]
    assert person == load_coco(base())["annotations"][0]


@pytest.mark.parametrize(
    ("part", "fields", "words"),
    [
        ("images", {"id": None}, r"images\[0\]\.id: expected a number, got null"),
        ("images", {"id": "frame_1"}, r"images\[0\]\.id: expected a number, got 'frame_1'"),
        ("images", {"file_name": 7}, r"images\[0\]\.file_name: expected a name, got 7"),
        ("images", {"width": 0}, r"images\[0\]\.width: expected a number of pixels, got 0"),
        ("images", {"width": {}}, r"images\[0\]\.width: .* got an object of 0 fields"),
        ("annotations", {"image_id": []}, r"annotations\[0\]\.image_id: expected a number"),
        ("annotations", {"bbox": None}, r"annotations\[0\]\.bbox: expected x, y.*got null"),
        ("annotations", {"bbox": [1, 2, 3]}, r"annotations\[0\]\.bbox: .* got \[1, 2, 3\]"),
        ("annotations", {"area": None}, r"annotations\[0\]\.area: expected square.*got null"),
        ("annotations", {"area": 1e11}, r"annotations\[0\]\.area: expected square"),
        ("annotations", {"area": -1}, r"annotations\[0\]\.area: expected square"),
        ("annotations", {"iscrowd": 2}, r"annotations\[0\]\.iscrowd: expected 0 or 1, got 2"),
        ("annotations", {"num_keypoints": -1}, r"annotations\[0\]\.num_keypoints: "),
        ("annotations", {"category_id": 7}, r"\.category_id: expected the id of a category, got 7"),
        ("annotations", {"keypoints": []}, r"\.keypoints: expected 17 times .*got \[\]"),
        ("annotations", {"keypoints": KEYPOINTS[3:]}, r"\.keypoints: .* got a list of 48"),
        ("annotations", {"keypoints": [[1]] * 51}, r"\.keypoints: .*a list of 51"),
        ("annotations", {"keypoints": [None, *KEYPOINTS[1:]]}, r"finite .* got \[nan, 20\.0"),
        ("annotations", {"keypoints": [10**400, *KEYPOINTS[1:]]}, r"\.keypoints: "),
        ("annotations", {"keypoints": [1, 2, -1, *KEYPOINTS[3:]]}, "visibility 0, 1 or 2, got"),
        ("categories", {"keypoints": "nose"}, r"categories\[0\]\.keypoints: expected a list"),
        ("categories", {"keypoints": ["nose", "Nose"]}, "expected names that differ"),
    ],
)
def test_a_fault_is_one_line_with_file_entry_and_field(tmp_path, part, fields, words):
    with pytest.raises(AnnotationError, match=words) as caught:
        load_coco(saved(tmp_path, changed(part, **fields)))
    assert str(caught.value).startswith(str(tmp_path / "people.json"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_joint_that_nobody_labelled_may_lie_anywhere(tmp_path):
    keypoints = [float("nan"), None, 0, *KEYPOINTS[3:]]
    content = load_coco(saved(tmp_path, changed("annotations", keypoints=keypoints)))
    assert content["annotations"][0]["keypoints"][:3] == [0, 0, 0]


@pytest.mark.parametrize(
    ("categories", "person"),
    [
        ([{"id": 0, "name": "person"}], 0),
        ([{"id": 7}], 7),
        ([{"id": 3, "name": "car"}, {"id": 7, "name": "person"}], 7),
        ([{"id": 3, "name": "horse", "keypoints": NAMES}, {"id": 7, "name": "people"}], 7),
        ([{"id": 3, "name": "set"}, {"id": 7, "name": "stick", "keypoints": NAMES}], 7),
        ([{"id": 3, "name": "person"}, {"id": 7, "name": "person", "keypoints": NAMES}], 7),
        ([{"id": "a", "name": "car"}, {"id": "b", "name": "person"}], "b"),
    ],
)
def test_people_are_found_by_the_name_of_their_category(categories, person):
    content = base() | {"categories": categories}
    other = content["annotations"][0] | {"category_id": categories[0]["id"], "keypoints": "any"}
    content["annotations"][0]["category_id"] = person
    if len(categories) > 1:
        content["annotations"].append(other)

    read = load_coco(content)

    assert [each["id"] for each in read["categories"]] == [1]
    assert [each["category_id"] for each in read["annotations"]] == [1]


@pytest.mark.parametrize(
    "categories",
    [
        [],
        [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        [{"id": n, "name": "person", "keypoints": NAMES} for n in (1, 2)],
        [{"id": n, "name": name, "keypoints": NAMES} for n, name in ((1, "dog"), (2, "cat"))],
    ],
)
def test_a_file_whose_people_are_not_told_from_others_is_refused(categories):
    with pytest.raises(AnnotationError, match="categories: expected one named person"):
        load_coco(base() | {"categories": categories})


def test_keypoints_in_another_order_are_brought_into_the_skeletons():
    content = base()
    content["categories"][0]["keypoints"] = NAMES[::-1]
    rows = [KEYPOINTS[start : start + 3] for start in range(0, 51, 3)]
    content["annotations"][0]["keypoints"] = [number for row in rows[::-1] for number in row]
    before = copy.deepcopy(content)

    read = people_of(content, BODYPOSE_18)

    assert read["annotations"][0]["keypoints"] == KEYPOINTS
    assert read["categories"][0]["keypoints"] == NAMES
    assert people_of(read, BODYPOSE_18) == read
    assert content == before


def test_joints_that_a_file_does_not_name_have_no_labels():
    content = base()
    content["categories"][0]["keypoints"] = NAMES[:5][::-1]
    content["annotations"][0]["keypoints"] = [float(number) for number in KEYPOINTS[:15]]

    (person,) = people_of(content, BODYPOSE_18)["annotations"][:1]

    assert person["keypoints"][:3] == KEYPOINTS[12:15]
    assert person["keypoints"][15:] == [0.0] * 36


def test_keypoints_of_another_skeleton_are_refused():
    content = base()
    content["categories"][0]["keypoints"] = [*NAMES[:-1], "tail"]
    with pytest.raises(AnnotationError, match=r"^file: expected keypoints nose.*tail; or --sk"):
        people_of(content, BODYPOSE_18, "file", "; or --skeleton")


def test_an_image_that_is_listed_twice_is_one_and_another_of_the_same_id_is_refused():
    content = base()
    content["images"] *= 2
    assert len(load_coco(content)["images"]) == 1
    content["images"][1] = content["images"][1] | {"file_name": "2.jpg"}
    with pytest.raises(AnnotationError, match=r"images\[1\]\.id: expected ids that differ"):
        load_coco(content)


def test_a_file_without_people_is_refused(tmp_path):
    with pytest.raises(AnnotationError, match="expected a person with labelled keypoints, got"):
        load_coco(saved(tmp_path, base() | {"annotations": []}))
