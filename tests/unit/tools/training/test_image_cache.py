"""The cache of decoded images in shared memory."""

import pickle
import shutil
from collections import namedtuple

import numpy as np
import pytest

from bodypose_tools.training.image_cache import CacheError, ImageCache

SIZE = (512, 683)  # a little over 1 MiB
IMAGE = np.full((*SIZE, 3), 7, np.uint8)


def fail() -> np.ndarray:
    raise AssertionError("decoded twice")


@pytest.fixture
def cache():
    made = ImageCache([SIZE] * 5, limit_mib=3)
    made.create()
    yield made
    made.close()


def test_an_image_is_decoded_once_for_all_processes(cache):
    worker = pickle.loads(pickle.dumps(cache))
    worker.attach()
    assert (worker.image(1, lambda: IMAGE) == 7).all()
    got = cache.image(1, fail)
    assert (got == IMAGE).all()
    with pytest.raises(ValueError, match="read-only"):
        got[:] = 0  # everybody's
    del got
    worker._memory.close()


def test_what_is_beyond_the_limit_is_decoded_every_time(cache):
    assert cache.num_cached == 2
    assert cache.num_bytes == 2 * IMAGE.nbytes <= 3 * 2**20
    cache.image(4, lambda: IMAGE)
    with pytest.raises(AssertionError, match="decoded twice"):
        cache.image(4, fail)


def test_an_image_of_another_size_is_passed_on_and_not_kept(cache):
    other = np.zeros((2, 2, 3), np.uint8)
    assert cache.image(0, lambda: other) is other
    assert (cache.image(0, lambda: IMAGE) == IMAGE).all()


def test_no_limit_means_no_memory():
    cache = ImageCache([SIZE], limit_mib=0)
    cache.create()
    cache.attach()
    assert cache.image(0, lambda: IMAGE) is IMAGE
    cache.close()


def test_more_than_the_machine_has_is_refused(monkeypatch):
    usage = namedtuple("usage", "free")(64 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CacheError, match=r"expected at most 64 MiB.*got 100; .*--shm-size"):
        ImageCache([SIZE] * 100, limit_mib=2000).create()
