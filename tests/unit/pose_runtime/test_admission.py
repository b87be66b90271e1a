"""The count of images under way: it is one for all processes, and never stays wrong for long."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from pose_runtime import admission
from pose_runtime.admission import Admission
from pose_runtime.errors import ServerFull


@pytest.fixture
def models(tmp_path: Path) -> tuple[Admission, Admission]:
    """Two models of one server."""
    return Admission(tmp_path / "count"), Admission(tmp_path / "count")


def pass_on(model: Admission, images: int, limit: int = 4) -> None:
    with model.entering(images, limit=limit):
        pass


def take(model: Admission, images: int) -> None:
    with model.leaving(images):
        pass


def test_images_beyond_the_limit_are_refused_until_others_are_done(models):
    first, last = models
    pass_on(first, 3)
    pass_on(first, 1)

    with pytest.raises(ServerFull, match="at most 4 images under way, got 4 already; ask again"):
        pass_on(first, 1)

    take(last, 1)
    pass_on(first, 1)


def test_a_request_that_is_larger_than_the_limit_is_taken_alone(models):
    first, last = models

    pass_on(first, 9)
    with pytest.raises(ServerFull):
        pass_on(first, 1)
    take(last, 9)
    pass_on(first, 9)


def test_images_that_fail_in_either_model_are_not_under_way(models):
    first, last = models
    with pytest.raises(ZeroDivisionError), first.entering(4, limit=4):
        raise ZeroDivisionError
    pass_on(first, 4)
    with pytest.raises(ZeroDivisionError), last.leaving(4):
        raise ZeroDivisionError

    pass_on(first, 4)


def test_images_that_nobody_passed_on_do_not_make_room(models):
    first, last = models
    take(last, 7)

    pass_on(first, 4)
    with pytest.raises(ServerFull):
        pass_on(first, 1)


def test_lost_images_are_forgotten_when_nothing_moves(models, monkeypatch):
    first, _ = models
    pass_on(first, 4)
    with pytest.raises(ServerFull):
        pass_on(first, 1)

    monkeypatch.setattr(admission, "_STALE_NS", 0)

    pass_on(first, 4)


def _come_and_go(file: Path, times: int) -> None:
    model = Admission(file)
    for _ in range(times):
        pass_on(model, 1, limit=10**6)
        take(model, 1)
        pass_on(model, 1, limit=10**6)


def test_processes_do_not_lose_each_others_images(tmp_path):
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_come_and_go, args=(tmp_path / "count", 500)) for _ in range(3)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join()

    model = Admission(tmp_path / "count")
    with pytest.raises(ServerFull, match="got 1500 already"):
        pass_on(model, 1, limit=1500)
    pass_on(model, 1, limit=1501)
