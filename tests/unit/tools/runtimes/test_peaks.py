import numpy as np

from bodypose_tools.runtimes.peaks import peak_gaps


def test_each_peak_goes_to_the_nearest_of_its_own_joint():
    peaks, others = np.zeros((2, 1, 2, 3, 3), np.float32)
    peaks[0, 0, 0] = 10, 10, 0.9
    peaks[0, 1, 0] = 50, 50, 0.9
    others[0, 0, :2] = [(13, 14, 0.5), (90, 90, 0.9)]
    gaps = peak_gaps(peaks, others)
    assert gaps.shape == (1, 2, 3)
    assert gaps[0, 0, 0] == 5
    assert np.isinf(gaps[0, 1]).all()  # the other model has no peak of joint 1
