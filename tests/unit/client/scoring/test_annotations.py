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


def person_with(**fields):
    (person,) = load_coco(changed("annotations", **fields))["annotations"]
    return person


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("-3", -3),
        ("9223372036854775807", 2**63 - 1),  # the largest that fits 64 bits
        (2**63 - 1, 2**63 - 1),
        (-2.0, -2),
        ("9223372036854775808", None),
        ("-9223372036854775807", None),  # 20 characters
        (-(2**63), None),
        ("--3", None),
        ("3-", None),
        ("\u0663", None),  # another script's 3
        ("", None),
        (1.5, None),
        (True, None),
    ],
)
def test_what_is_a_whole_number(text, number):
    content = changed("annotations", image_id=text)
    if number is None:
        with pytest.raises(AnnotationError, match=r"annotations\[0\]\.image_id: expected a number"):
            load_coco(content)
    else:
        assert load_coco(content)["annotations"][0]["image_id"] == number


@pytest.mark.parametrize(
    ("part", "field", "most", "more"),
    [
        ("images", "width", 1_000_000, 1_000_001),
        ("images", "height", 1, -1),
        ("annotations", "area", 1e10, 1e10 + 10),
        ("annotations", "area", 0, -0.5),
        ("annotations", "bbox", [-1e6, 1e6, 1, 2], [0, 1e6 + 1, 1, 2]),
        ("annotations", "bbox", [1, 2, 3, 4], [1, 2, 3, 4, 5]),
        ("annotations", "keypoints", [-999_999, 2, 1] * 17, [1e6, 2, 1] * 17),
        ("annotations", "keypoints", [3, 999_999, 2] * 17, [3, -1e6, 2] * 17),
        ("annotations", "num_keypoints", 0, -1),
        ("annotations", "iscrowd", 1, -1),
    ],
)
def test_the_last_number_that_is_accepted_and_the_first_that_is_not(part, field, most, more):
    assert load_coco(changed(part, **{field: most}))[part][0][field] == most
    with pytest.raises(AnnotationError, match=rf"{part}\[0\]\.{field}: expected"):
        load_coco(changed(part, **{field: more}))


def test_joints_are_unlabelled_hidden_or_seen():
    assert person_with(keypoints=[5, 6, 0, 7, 8, 1, 9, 10, 2] + [0] * 42)["keypoints"][:9] == [
        *(5, 6, 0),
        *(7, 8, 1),
        *(9, 10, 2),
    ]
    for wrong in (3, -1, 0.5):
        with pytest.raises(AnnotationError, match=rf"visibility 0, 1 or 2, got {float(wrong)}$"):
            person_with(keypoints=[1, 2, 1, 1, 2, 0, 1, 2, 2, 1, 2, wrong] + [0] * 39)


def test_the_first_position_that_is_nowhere_is_named():
    keypoints = [1, 2, 2, 3, 2e6, 2, 4e6, 5, 2, *KEYPOINTS[9:]]
    with pytest.raises(AnnotationError, match=r"pixels, got \[3\.0, 2000000\.0, 2\.0\]$"):
        person_with(keypoints=keypoints)


def test_keypoints_without_their_number_are_counted():
    assert person_with(num_keypoints=None, keypoints=[1, 2, 2, 1, 2, 1] + [0] * 45)[
        "num_keypoints"
    ] == (2)
    assert person_with(num_keypoints=5)["num_keypoints"] == 5
    assert person_with(num_keypoints=5, keypoints=[0] * 51)["num_keypoints"] == 0


def test_a_person_without_joints_needs_no_keypoints_and_its_area_is_its_boxs():
    fields = {"num_keypoints": 0, "keypoints": [], "bbox": [1, 2, -3, 4]}
    content = changed("annotations", **fields)
    del content["annotations"][0]["area"]
    person = load_coco(content)["annotations"][0]
    assert (person["keypoints"], person["area"]) == ([0.0] * 51, 12.0)

    content["annotations"][0] |= {"num_keypoints": 4, "iscrowd": 1}
    assert load_coco(content)["annotations"][0]["area"] == 12.0
    content["annotations"][0] |= {"keypoints": KEYPOINTS, "iscrowd": 0}
    with pytest.raises(AnnotationError, match=r"area: expected square pixels, got nothing$"):
        load_coco(content)


def test_a_crowd_is_one_by_number_text_or_truth():
    assert [person_with(iscrowd=crowd)["iscrowd"] for crowd in (1, "1", True, 0, "0")] == [
        *(1, 1, 1),
        *(0, 0),
    ]


def test_annotations_without_an_id_are_numbered_from_one():
    content = base()
    content["annotations"] = [base()["annotations"][0] | {"id": own} for own in ("a", None, 2.5, 9)]
    assert [each["id"] for each in load_coco(content)["annotations"]] == ["a", 2, 3, 9]


def test_without_names_keypoints_are_threes():
    content = base()
    del content["categories"][0]["keypoints"]
    del content["annotations"][0]["num_keypoints"]
    content["annotations"][0]["keypoints"] = []
    assert load_coco(content)["annotations"][0]["keypoints"] == []
    content["annotations"][0]["keypoints"] = [1, 2, 2, 3]
    with pytest.raises(AnnotationError, match=r"expected x, y, visibility of each, got \[1, 2,"):
        load_coco(content)
    content["annotations"][0]["keypoints"] = [1, 2, 2]
    with pytest.raises(
        AnnotationError, match=r"^f: annotation 1: keypoints: expected 17 .* got 1;"
    ):
        people_of(content, BODYPOSE_18, "f", "; see")


def test_of_content_images_may_be_ids_only_and_of_a_file_not(tmp_path):
    content = base() | {"images": [{"id": 1}, {"id": 2, "width": 7}]}
    assert load_coco(content)["images"] == content["images"]
    with pytest.raises(AnnotationError, match=r"images\[0\]\.file_name: expected a name, got null"):
        load_coco(saved(tmp_path, content))


def test_a_file_whose_only_labels_are_a_crowds_is_refused(tmp_path):
    content = changed("annotations", iscrowd=1)
    assert load_coco(content)["annotations"][0]["num_keypoints"] == 17
    with pytest.raises(AnnotationError, match=r"got none in 1 annotations$"):
        load_coco(saved(tmp_path, content))


def test_categories_of_one_number_are_refused():
    content = base()
    content["categories"].append({"id": 1, "name": "car"})
    with pytest.raises(AnnotationError, match="expected ids that differ, got 1 twice"):
        load_coco(content)


def test_categories_are_listed_where_none_is_of_people():
    content = base() | {"categories": [{"id": n, "name": f"animal{n:03}"} for n in range(40)]}
    with pytest.raises(AnnotationError) as caught:
        load_coco(content)
    listed = ", ".join(f"animal{n:03}" for n in range(40))[:200]
    assert str(caught.value).endswith(f"got {listed}")
    with pytest.raises(AnnotationError, match=r"got none$"):
        load_coco(base() | {"categories": []})


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ([1, 2, 3, 4], "[1, 2, 3, 4]"),
        ([1, 2, 3, 4, 5], "a list of 5"),
        ([{}], "a list of 1"),
        (2**63, "9223372036854775808"),
        (-(2**63) - 1, "a larger number"),
        ("x" * 78, repr("x" * 78)),
        ("x" * 79, "'" + "x" * 76 + "..."),
        (None, "null"),
        ({"b": 1, "a": 2}, "['a', 'b']"),
        ({"k" * 196 + "xyz": 1}, "['" + "k" * 196 + "xy"),
    ],
)
def test_what_a_file_holds_instead_is_shown_in_short(tmp_path, content, shown):
    with pytest.raises(AnnotationError) as caught:
        load_coco(saved(tmp_path, content))
    expected = "expected lists `images`, `annotations` and `categories`"
    assert str(caught.value) == f"{tmp_path / 'people.json'}: {expected}, got {shown}"


def test_an_id_is_a_number_or_a_name():
    for wrong, shown in ((1.5, "1.5"), ("", "''"), ([], r"\[\]")):
        with pytest.raises(
            AnnotationError, match=rf"\.id: expected a number or a name, got {shown}"
        ):
            load_coco(changed("categories", id=wrong))
    with pytest.raises(AnnotationError, match=r"images\[0\]\.file_name: expected a name, got ''"):
        load_coco(changed("images", file_name=""))
    with pytest.raises(AnnotationError, match=r"annotations\[0\]: expected an object, got 5"):
        load_coco(base() | {"annotations": [5]})


def test_names_of_another_skeleton_are_listed_up_to_500_characters():
    content = base()
    names = [f"joint_number_{number:02}" for number in range(40)]
    content["categories"][0]["keypoints"] = names
    content["annotations"][0]["keypoints"] = [1, 2, 2] * 40
    with pytest.raises(AnnotationError) as caught:
        people_of(content, BODYPOSE_18, "f", "; end")
    assert str(caught.value).endswith(f"got {', '.join(names)[:500]}; end")
