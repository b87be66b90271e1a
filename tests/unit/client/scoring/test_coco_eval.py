import copy
import json
from dataclasses import replace

import numpy as np
import pytest

from bodypose_client.errors import AnnotationError
from bodypose_client.scoring.coco_eval import (
    CocoMetrics,
    annotated_sigmas,
    coco_results,
    evaluate_results,
)
from pose_runtime.poses import Poses
from pose_runtime.skeleton import BODYPOSE_18, Skeleton
from tests.coco import COCO, MISSING_COCO

STICK = Skeleton(
    name="stick",
    joints=("top", "bottom"),
    limbs=((0, 1),),
    mirror=(0, 1),
    sigmas=(0.1, 0.1),
    annotated=(1, 0),  # the file has the bottom first
)


def stick_file(*people, num_images=2):
    """Annotations of stick people: (image id, top x, top y, bottom x, bottom y), area 2,500."""
    return {
        "images": [{"id": number} for number in range(1, num_images + 1)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": 1,
                "keypoints": [bottom_x, bottom_y, 2, top_x, top_y, 2],
                "bbox": [top_x, top_y, 50, 50],
                "area": 2500,
            }
            for number, (image, top_x, top_y, bottom_x, bottom_y) in enumerate(people)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }


def stick_results(image_id, *people):
    """(top x, top y, bottom x, bottom y, score) of each person."""
    centre = 0.5  # COCO's 10 is the centre of pixel 10, which is 10.5 in our frame
    keypoints = [
        [(tx + centre, ty + centre, 0.5), (bx + centre, by + centre, 0.5)]
        for tx, ty, bx, by, _ in people
    ]
    poses = Poses(np.float32(keypoints), np.float32([score for *_, score in people]))
    return coco_results(image_id, poses, STICK)


def evaluate(annotations, results, **options):
    return evaluate_results(annotations, results, sigmas=annotated_sigmas(STICK), **options)


def test_results_are_in_the_order_of_the_file_and_keep_their_decimals():
    poses = Poses(np.float32([[[1.25, 2, 0.5], [3, 4.1, 0.25]]]), np.float32([0.75]))

    (result,) = coco_results(7, poses, STICK)

    assert result == {
        "image_id": 7,
        "category_id": 1,
        "keypoints": [2.5, float(np.float32(4.1) - np.float32(0.5)), 0.25, 0.75, 1.5, 0.5],
        "score": 0.75,
    }
    assert json.loads(json.dumps(result)) == result


def test_midpoints_are_left_out():
    poses = Poses(np.ones((1, 18, 3), np.float32), np.float32([1]))

    (result,) = coco_results(1, poses, BODYPOSE_18)

    assert len(result["keypoints"]) == 17 * 3


def test_two_people_found_exactly_score_1():
    metrics = evaluate(
        stick_file((1, 10, 10, 10, 60), (2, 30, 10, 30, 60)),
        stick_results(1, (10, 10, 10, 60, 0.9)) + stick_results(2, (30, 10, 30, 60, 0.8)),
    )

    assert (metrics.ap, metrics.ar, metrics.apm) == pytest.approx((1, 1, 1))
    assert metrics.apl == -1  # nobody is that large
    assert (metrics.images, metrics.people) == (2, 2)


def test_a_missed_person_halves_recall():
    metrics = evaluate(
        stick_file((1, 10, 10, 10, 60), (2, 30, 10, 30, 60)),
        stick_results(1, (10, 10, 10, 60, 0.9)),
    )

    assert metrics.ar == 0.5
    # COCO reads precision at 101 recalls; the first 51 of them are reached.
    assert metrics.ap == pytest.approx(51 / 101)


def test_oks_follows_the_skeletons_sigmas():
    # One joint exact, one off by d: OKS = (1 + exp(-d² / (2 area (2 sigma)²))) / 2,
    # which for d = 8, area = 2,500, sigma = 0.1 is 0.863: AP counts 0.50 to 0.85.
    annotations = stick_file((1, 10, 10, 10, 60), num_images=1)
    results = stick_results(1, (10, 18, 10, 60, 0.9))

    assert evaluate(annotations, results).ap == pytest.approx(0.8)
    strict = evaluate_results(annotations, results, sigmas=(0.01, 0.01))
    assert strict.ap == pytest.approx(0.1)  # OKS 0.5


def test_a_person_invented_in_an_image_without_people_costs_precision():
    annotations = stick_file((1, 10, 10, 10, 60))
    found = stick_results(1, (10, 10, 10, 60, 0.8))
    invented = stick_results(2, (10, 10, 10, 60, 0.9))

    assert evaluate(annotations, found).ap == pytest.approx(1)
    assert evaluate(annotations, found + invented).ap == pytest.approx(0.5)
    assert evaluate(annotations, found + invented, image_ids=[1]).ap == pytest.approx(1)


def test_crowds_and_people_without_joints_do_not_count():
    annotations = stick_file((1, 10, 10, 10, 60), (1, 90, 10, 90, 60), (2, 30, 10, 30, 60))
    annotations["annotations"][1] |= {"keypoints": [0] * 6}
    annotations["annotations"][2] |= {"iscrowd": 1}

    metrics = evaluate(annotations, stick_results(1, (10, 10, 10, 60, 0.9)))

    assert (metrics.people, metrics.ar) == (1, pytest.approx(1))


def test_nobody_found_is_zero():
    metrics = evaluate(stick_file((1, 10, 10, 10, 60)), [])

    assert set(metrics.numbers.values()) == {0}
    assert (metrics.images, metrics.people) == (2, 1)


def test_what_is_given_is_not_changed():
    annotations = stick_file((1, 10, 10, 10, 60))
    results = stick_results(1, (10, 10, 10, 60, 0.9))
    before = copy.deepcopy((annotations, results))

    evaluate(annotations, results)

    assert (annotations, results) == before


def test_other_categories_are_not_people():
    annotations = stick_file((1, 10, 10, 10, 60))
    annotations["annotations"].append({"id": 9, "image_id": 1, "category_id": 2, "bbox": []})
    annotations["categories"].append({"id": 2, "name": "dog"})

    assert evaluate(annotations, stick_results(1, (10, 10, 10, 60, 0.9))).people == 1


def test_the_ten_numbers_have_coco_names(capsys):
    metrics = CocoMetrics(*(0.1 * n for n in range(10)), images=3, people=4)

    assert list(metrics.to_json()) == [
        *("AP", "AP50", "AP75", "APm", "APl"),
        *("AR", "AR50", "AR75", "ARm", "ARl"),
        *("images", "people"),
    ]
    assert metrics.table()[3] == ("APm", "0.300", "precision, people of 32² to 96² pixels")
    assert replace(metrics, apm=-1).table()[3][1] == "n/a"


def test_pycocotools_stays_quiet(capsys):
    evaluate(stick_file((1, 10, 10, 10, 60)), stick_results(1, (10, 10, 10, 60, 0.9)))

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": None}, "expected lists"),
        ({"categories": [{"id": 5}]}, "expected the id of a category, got 1"),
        (
            {"annotations": [{"id": 3, "image_id": 1, "keypoints": []}]},
            r"annotations\[0\]\.bbox: expected x, y",
        ),
        ({"images": [{"id": 9}]}, "expected images of the annotations"),
    ],
)
def test_annotations_that_do_not_fit_are_named(change, words):
    annotations = stick_file((1, 10, 10, 10, 60)) | change

    with pytest.raises(AnnotationError, match=words):
        evaluate(annotations, stick_results(1, (10, 10, 10, 60, 0.9)))


def test_another_number_of_keypoints_is_named():
    with pytest.raises(AnnotationError, match="expected 17 keypoints, as many as sigmas, got 2"):
        evaluate_results(stick_file((1, 10, 10, 10, 60)), [])


@pytest.fixture(scope="session")
def val_file():
    path = COCO / "person_keypoints_val.json"
    if not path.is_file():
        pytest.skip(MISSING_COCO)
    return path


def truth_as_results(val_file, shift_px=0.0):
    content = json.loads(val_file.read_text())
    people = [
        person
        for person in content["annotations"]
        if person["num_keypoints"] > 0 and not person["iscrowd"]
    ]
    results = []
    for person in people:
        labelled = np.float32(person["keypoints"]).reshape(1, 17, 3)
        joints = BODYPOSE_18.joints_from_annotation(labelled)
        joints[..., :2] += 0.5  # from COCO's frame to ours
        joints[..., 0] += shift_px
        poses = Poses(joints, np.float32([1]))
        results += coco_results(person["image_id"], poses, BODYPOSE_18)
    return results


@pytest.mark.coco
def test_ground_truth_as_results_scores_1(val_file):
    metrics = evaluate_results(val_file, truth_as_results(val_file))

    assert list(metrics.numbers.values()) == pytest.approx([1] * 10, abs=1e-9)
    assert (metrics.images, metrics.people) == (250, 636)


@pytest.mark.coco
def test_shifted_ground_truth_scores_less(val_file):
    scores = [
        evaluate_results(val_file, truth_as_results(val_file, shift_px)).ap
        for shift_px in (0, 3, 8)
    ]

    assert scores == sorted(scores, reverse=True)
    assert scores[1] < 0.97
    assert scores[2] < 0.8


def test_a_joint_that_is_hidden_but_labelled_counts_like_a_visible_one():
    """Visibility 1: a file without `num_keypoints` whose people have hidden joints only."""
    annotations = stick_file((1, 10, 10, 10, 60), (2, 10, 10, 10, 60))
    for annotation in annotations["annotations"]:
        annotation["keypoints"][2::3] = [1, 1]
    results = stick_results(1, (10, 10, 10, 60, 0.9))

    metrics = evaluate(annotations, results)

    assert metrics.people == 2
    assert metrics.ar == pytest.approx(0.5)
    annotations["annotations"][1]["keypoints"][2::3] = [0, 0]
    assert evaluate(annotations, results).people == 1


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_and_more_keypoints_than_sigmas_are_refused(count):
    results = stick_results(1, (10, 10, 10, 60, 0.9))
    results[0]["keypoints"] = [10.0, 10.0, 1.0] * count

    with pytest.raises(
        AnnotationError, match=f"expected 2 keypoints, as many as sigmas, got {count}"
    ):
        evaluate(stick_file((1, 10, 10, 10, 60)), results)


def test_a_joint_found_in_the_corner_is_half_a_pixel_outside():
    poses = Poses(np.float32([[[0, 0, 0.5], [0, 0, 0]]]), np.float32([1]))

    (result,) = coco_results(1, poses, STICK)

    assert result["keypoints"] == [0, 0, 0, -0.5, -0.5, 0.5]


def test_one_image_may_be_named_twice_and_a_stranger_is_refused():
    annotations = stick_file((1, 10, 10, 10, 60), (2, 30, 10, 30, 60))
    found = stick_results(2, (30, 10, 30, 60, 0.9))

    metrics = evaluate(annotations, found, image_ids=[2, 2])

    assert (metrics.images, metrics.people, metrics.ap) == (1, 1, pytest.approx(1))
    with pytest.raises(AnnotationError, match=r"image_ids: .* got 2 others, such as 30$"):
        evaluate(annotations, found, image_ids=[2, 7, 30])
    with pytest.raises(AnnotationError, match=r"results: .* got 1 others, such as 9$"):
        evaluate(annotations, [*found, found[0] | {"image_id": 9}])


def test_results_need_no_category():
    annotations = stick_file((1, 10, 10, 10, 60))
    (result,) = stick_results(1, (10, 10, 10, 60, 0.9))
    del result["category_id"]

    assert evaluate(annotations, [result]).ap == pytest.approx(1)


def test_a_person_with_one_labelled_joint_counts():
    annotations = stick_file((1, 10, 10, 10, 60))
    annotations["annotations"][0]["keypoints"][5] = 0

    assert evaluate(annotations, stick_results(1, (10, 10, 10, 60, 0.9))).people == 1
