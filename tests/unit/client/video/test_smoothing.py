import math

import numpy as np
import pytest

from bodypose_client.video.smoothing import OneEuro, Smoother
from pose_runtime.poses import Poses

RATE = 30


def person(x, y=50.0, size=100.0, num_joints=4):
    """All joints of a person whose box has the given size; the first is at (x, y)."""
    keypoints = np.full((1, num_joints, 3), 0.9, np.float32)
    keypoints[0, :, :2] = (x, y)
    keypoints[0, 1, :2] += size
    return Poses(keypoints, np.float32([0.9]))


def follow(xs, settings=OneEuro(), size=100.0):  # noqa: B008  frozen
    """The smoothed way of the first joint's x."""
    smoother = Smoother(settings)
    frames = enumerate(xs)
    return [
        float(smoother.smooth(person(x, size=size), [1], number / RATE).keypoints[0, 0, 0])
        for number, x in frames
    ]


def one_euro(xs, settings, size):
    """The paper's equations for one coordinate, one number after the other."""

    def factor(cutoff_hz):
        tau = 1 / (2 * math.pi * cutoff_hz)
        return 1 / (1 + tau * RATE)

    smoothed, speed, way = xs[0], 0.0, [xs[0]]
    for x in xs[1:]:
        a = factor(settings.speed_cutoff_hz)
        speed = a * (x - smoothed) * RATE + (1 - a) * speed
        a = factor(settings.min_cutoff_hz + settings.speed_coefficient * abs(speed) / size)
        smoothed = a * x + (1 - a) * smoothed
        way.append(smoothed)
    return way


def test_it_is_the_papers_filter():
    xs = (100 + 40 * np.sin(np.arange(60) / 5) + np.arange(60) % 3).tolist()

    assert follow(xs) == pytest.approx(one_euro(xs, OneEuro(), 100.0), abs=1e-2)


def test_a_joint_at_rest_trembles_much_less():
    noisy = 200 + np.random.default_rng(3).normal(0, 1.0, 300)

    assert np.std(follow(noisy)[30:]) < 0.45 * np.std(noisy[30:])


def test_a_fast_joint_does_not_lag():
    xs = 100 + 10.0 * np.arange(60)  # three body sizes a second

    lag_px = xs[30:] - np.float32(follow(xs)[30:])

    assert lag_px.max() < 10  # less than a frame


def test_the_size_of_a_person_does_not_matter():
    xs = 100 + 30 * np.sin(np.arange(50) / 4)

    small, large = follow(xs, size=100.0), follow(8 * xs, size=800.0)

    assert np.allclose(8 * np.float64(small), large, rtol=1e-3)


def test_a_missing_joint_stays_missing_and_comes_back_steadily():
    smoother = Smoother()
    smoother.smooth(person(100), [1], 0.0)
    gone = person(100)
    gone.keypoints[0, 0] = 0

    hidden = smoother.smooth(gone, [1], 0.1)
    back = smoother.smooth(person(110), [1], 0.2)

    assert hidden.keypoints[0, 0].tolist() == [0, 0, 0]
    assert 100 < back.keypoints[0, 0, 0] < 110
    assert back.keypoints[0, 0, 2] == np.float32(0.9)


def test_a_joint_that_was_away_for_long_starts_anew():
    smoother = Smoother()
    smoother.smooth(person(100), [1], 0.0)

    assert smoother.smooth(person(300), [1], 5.0).keypoints[0, 0, 0] == 300


def test_tracks_do_not_mix():
    smoother = Smoother()
    two = Poses(
        np.concatenate([person(100).keypoints, person(400).keypoints]), np.float32([0.9, 0.8])
    )
    smoother.smooth(two, [1, 2], 0.0)
    swapped = Poses(two.keypoints[::-1].copy(), two.scores)

    smoothed = smoother.smooth(swapped, [2, 1], 0.1)

    assert smoothed.keypoints[:, 0, 0].tolist() == [400, 100]


def test_two_frames_of_one_time_are_no_error():
    smoother = Smoother()
    smoother.smooth(person(100), [1], 1.0)

    assert smoother.smooth(person(120), [1], 1.0).keypoints[0, 0, 0] == 120


def test_nobody_is_nobody():
    assert len(Smoother().smooth(Poses.empty(18), [], 0.0)) == 0


def test_the_given_people_are_not_changed():
    smoother = Smoother()
    smoother.smooth(person(100), [1], 0.0)
    given = person(110)

    smoother.smooth(given, [1], 0.1)

    assert given.keypoints[0, 0, 0] == 110


def test_gone_tracks_are_forgotten():
    smoother = Smoother()
    for number in range(1000):
        smoother.smooth(person(100), [number], number / RATE)

    assert len(smoother._tracks) < 20


def test_scores_are_not_smoothed():
    smoother = Smoother()
    for number, (person_score, joint_score) in enumerate([(0.9, 0.8), (0.5, 0.3), (0.7, 0.6)]):
        given = person(100 + number)
        given.scores[:], given.keypoints[..., 2] = person_score, joint_score

        smoothed = smoother.smooth(given, [1], number / RATE)

        assert smoothed.scores.tolist() == given.scores.tolist()
        assert smoothed.keypoints[..., 2].tolist() == given.keypoints[..., 2].tolist()
