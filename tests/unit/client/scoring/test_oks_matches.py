"""Average precision from matches is pycocotools' own, over any choice of images."""

import numpy as np
import pytest

from bodypose_client.scoring.coco_eval import evaluate_results, evaluate_with_matches
from bodypose_client.scoring.comparison import compare
from bodypose_client.scoring.oks_matches import worst_images


def person(image_id, keypoints, **more):
    x, y = keypoints[:, 0], keypoints[:, 1]
    box = [x.min(), y.min(), np.ptp(x), np.ptp(y)]
    return {
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "bbox": [float(side) for side in box],
        "area": float(box[2] * box[3]),
        **more,
    }


@pytest.fixture(scope="module")
def content():
    """40 images with 0 to 6 people, some of them crowds or without labelled joints."""
    random = np.random.default_rng(1)
    people = []
    for image_id in range(1, 41):
        for number in range(random.integers(0, 7)):
            joints = np.concatenate(
                [random.uniform(0, 120, (17, 2)) + 150 * number, np.full((17, 1), 2)], axis=1
            )
            if random.random() < 0.1:
                joints[:, 2] = 0
            people.append(person(image_id, joints, iscrowd=int(random.random() < 0.1)))
    return {
        "images": [{"id": image_id} for image_id in range(1, 41)],
        "annotations": people,
        "categories": [{"id": 1, "name": "person"}],
    }


def found(content, noise, seed):
    """People near the annotated ones, some missed, some invented, many with equal scores."""
    random = np.random.default_rng(seed)
    results = []
    for each in content["annotations"]:
        joints = np.float64(each["keypoints"]).reshape(17, 3)
        joints[:, :2] += random.normal(0, noise, (17, 2))
        score = round(float(random.random()), 1)
        if random.random() < 0.8:
            results.append(
                {
                    "image_id": each["image_id"],
                    "category_id": 1,
                    "keypoints": joints.ravel().tolist(),
                    "score": score,
                }
            )
        if random.random() < 0.3:
            results.append({**results[-1], "keypoints": (joints + 40).ravel().tolist()})
    return results


@pytest.mark.parametrize("noise", [0, 3, 8, 100])
def test_all_images_together(content, noise):
    metrics, matches = evaluate_with_matches(content, found(content, noise, seed=2))

    assert matches.average_precision() == pytest.approx(metrics.ap, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_any_choice_of_images(content, seed):
    results = found(content, 4, seed)
    matches = evaluate_with_matches(content, results)[1]
    chosen = np.random.default_rng(seed).permutation(matches.image_ids)[:12]

    alone = evaluate_results(content, results, chosen.tolist())

    weights = np.isin(matches.image_ids, chosen).astype(float)
    assert matches.average_precision(weights) == pytest.approx(alone.ap, abs=1e-9)


def test_an_image_of_weight_two_is_there_twice(content):
    results = found(content, 4, seed=3)
    for number, result in enumerate(results):  # copies of equal scores need not stand together
        result["score"] += number * 1e-6
    twin = 100
    doubled = {
        **content,
        "images": [*content["images"], {"id": twin}],
        "annotations": content["annotations"]
        + [{**p, "image_id": twin} for p in content["annotations"] if p["image_id"] == 7],
    }
    both = results + [{**r, "image_id": twin} for r in results if r["image_id"] == 7]
    matches = evaluate_with_matches(content, results)[1]

    weights = np.where(matches.image_ids == 7, 2, 1)
    expected = evaluate_results(doubled, both).ap
    assert matches.average_precision(weights) == pytest.approx(expected, abs=1e-9)


def test_nobody_found_and_nobody_there(content):
    matches = evaluate_with_matches(content, [])[1]

    assert matches.average_precision() == 0
    assert matches.average_precision(np.zeros(len(matches.people))) == -1


def test_an_image_score_counts_missed_and_invented(content):
    matches = evaluate_with_matches(content, found(content, 0, seed=4))[1]
    scores = matches.image_scores(min_score=0)

    for score, people in zip(scores, matches.people, strict=True):
        assert 0 <= score.f1 <= 1
        assert (score.f1 == 1) == (score.missed == score.invented == 0)
        assert score.people == people
    worst = worst_images(scores, 5)
    assert [score.f1 for score in worst] == sorted(score.f1 for score in scores)[:5]


def test_a_better_set_of_results_is_told_from_a_worse_one(content):
    good, bad = (
        evaluate_with_matches(content, found(content, noise, seed=5))[1] for noise in (1, 9)
    )

    better = compare(bad, good, resamples=200)

    assert better.verdict == "B is better"
    assert 0 < better.low < better.difference < better.high
    assert compare(good, bad, resamples=200).verdict == "A is better"
    assert compare(bad, good, resamples=200) == better  # seeded


def test_equal_results_show_no_difference(content):
    matches = evaluate_with_matches(content, found(content, 4, seed=5))[1]

    same = compare(matches, matches, resamples=50)

    assert (same.difference, same.low, same.high) == (0, 0, 0)
    assert same.verdict == "no difference is shown"
