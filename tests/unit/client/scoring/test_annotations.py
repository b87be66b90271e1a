import json

import pytest

from bodypose_client.errors import AnnotationError, FileError
from bodypose_client.scoring.annotations import check_keypoint_names, load_annotations, load_coco
from pose_runtime.skeleton import BODYPOSE_18

NAMES = list(BODYPOSE_18.annotated_joints)
CONTENT = {"images": [], "annotations": [], "categories": [{"id": 7, "keypoints": NAMES}]}


def test_files_that_are_no_annotations_are_named(tmp_path):
    with pytest.raises(FileError, match="No such file"):
        load_coco(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(AnnotationError, match="expected JSON"):
        load_coco(tmp_path / "text.json")


def test_evaluation_needs_the_person_category_where_training_takes_any(tmp_path):
    path = tmp_path / "people.json"
    path.write_text(json.dumps(CONTENT))

    assert load_coco(path) == CONTENT
    with pytest.raises(AnnotationError, match=r"people\.json: expected category 1"):
        load_annotations(path)


@pytest.mark.parametrize(
    ("categories", "fits"),
    [
        ([], True),
        ([{"id": 1}], True),
        ([{"id": 7, "keypoints": NAMES}], True),
        ([{"id": 7, "keypoints": NAMES[::-1]}], False),
        ([{"id": 7, "keypoints": ["tail"]}, {"id": 1, "keypoints": NAMES}], True),
        ([{"id": 7, "keypoints": NAMES}, {"id": 1, "keypoints": NAMES[::-1]}], False),
    ],
)
def test_keypoints_of_the_person_category_or_the_first_are_the_skeletons(categories, fits):
    content = {**CONTENT, "categories": categories}
    if fits:
        check_keypoint_names(content, "file", BODYPOSE_18)
    else:
        with pytest.raises(AnnotationError, match=r"right_ankle, .* or --skeleton$"):
            check_keypoint_names(content, "file", BODYPOSE_18, "; or --skeleton")
