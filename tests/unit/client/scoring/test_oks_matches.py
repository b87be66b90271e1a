"""Average precision from matches is pycocotools' own, over any choice of images."""

import numpy as np
import pytest

from bodypose_client.scoring.coco_eval import evaluate_results, evaluate_with_matches
from bodypose_client.scoring.comparison import ResultsComparison, compare
from bodypose_client.scoring.oks_matches import ImageScore, OksMatches, matches_of, worst_images


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


def matches(people, right, wrong, image=None, scores=None):
    """Matches by hand, the same at every threshold."""
    count = len(right)
    return OksMatches(
        np.arange(10, 10 + len(people)),
        np.array(people),
        np.arange(count) if image is None else np.array(image),
        np.linspace(0.9, 0.5, count) if scores is None else np.array(scores),
        np.tile(np.array(right, bool), (10, 1)),
        np.tile(np.array(wrong, bool), (10, 1)),
    )


def test_the_interval_holds_95_percent_of_the_resamples():
    """B finds half of 100 people: a resample has as many of them as a coin shows heads."""
    nobody = matches([1] * 100, [], [])
    half = matches([1] * 100, [True] * 50, [False] * 50)

    found = compare(nobody, half, resamples=5000)

    # 40 to 60 heads: recalls of 0 to 0.40 and of 0 to 0.60 are 41 and 61 of COCO's 101.
    assert (found.low, found.high) == pytest.approx((41 / 101, 61 / 101))
    assert (found.ap_a, found.ap_b) == pytest.approx((0, 51 / 101))
    assert (found.images, found.resamples, found.seed) == (100, 5000, 0)


def test_resamples_without_people_say_nothing():
    a = matches([1, 0], [True], [False])

    found = compare(a, a, seed=3)

    assert 700 < found.resamples < 800  # of 1000, a quarter has the second image alone
    assert (found.images, found.seed) == (2, 3)
    nobody = compare(matches([0], [], []), matches([0], [], []))
    assert (nobody.low, nobody.high, nobody.resamples) == (0, 0, 0)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "B is better"),
        (0.0, 0.2, "no difference is shown"),
        (-0.2, 0.0, "no difference is shown"),
        (-0.2, -0.01, "A is better"),
    ],
)
def test_better_is_an_interval_on_one_side_of_0(low, high, verdict):
    found = ResultsComparison(0.25, 0.75, low, high, 3, 100, 7)

    assert found.verdict == verdict
    assert found.to_json() | {"low": low, "difference": 0.5, "verdict": verdict} == found.to_json()


def test_f1_of_an_image_is_of_the_people_that_are_shown():
    found = matches(
        [3, 0, 0],
        [True, True, False, False],
        [False, False, True, True],
        image=[0, 0, 0, 1],
        scores=[0.9, 0.4, 0.4, 0.2],
    )

    found.right[1:, 1] = False  # not so near that it is right at more than 0.50
    found.wrong[1:, 1] = True
    assert found.image_scores(0.4) == [
        ImageScore(10, pytest.approx((0.1 * 2 + 0.9 * 1) * 2 / (3 + 3)), 3, 1, 1),
        ImageScore(11, 1.0, 0, 0, 0),
        ImageScore(12, 1.0, 0, 0, 0),
    ]
    assert found.image_scores(0.5)[0] == ImageScore(10, pytest.approx(2 / 4), 3, 2, 0)
    assert found.image_scores(0.1)[1] == ImageScore(11, 0.0, 0, 0, 1)


def test_of_equal_images_the_one_with_more_mistakes_is_worse():
    scores = [
        ImageScore(4, 0.5, 3, 1, 1),
        ImageScore(3, 0.5, 3, 1, 1),
        ImageScore(2, 0.5, 9, 0, 3),
        ImageScore(1, 0.5, 9, 3, 1),
        ImageScore(0, 0.9, 9, 9, 9),
    ]

    assert [each.image_id for each in worst_images(scores, 4)] == [1, 2, 3, 4]


def test_people_are_in_the_order_of_their_scores_and_crowds_are_neither_right_nor_wrong():
    def entry(scores, matched, ignored):
        return {
            "dtScores": scores,
            "dtMatches": np.tile(np.float64(matched), (10, 1)),
            "dtIgnore": np.tile(np.float64(ignored), (10, 1)),
        }

    evaluated = [entry([0.5, 0.2], [7, 0], [0, 0]), None, entry([0.9, 0.5], [8, 1], [1, 0])]

    found = matches_of([3, 4, 5], {3: 2, 5: 1}, evaluated)

    assert (found.people.tolist(), found.image.tolist()) == ([2, 0, 1], [2, 0, 2, 0])
    assert found.scores.tolist() == [0.9, 0.5, 0.5, 0.2]
    assert found.right[0].tolist() == found.right[9].tolist() == [False, True, True, False]
    assert found.wrong[0].tolist() == [False, False, False, True]
    assert matches_of([3], {}, []).right.shape == (10, 0)
