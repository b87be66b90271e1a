"""Places of images under way: one count for all processes, and a lost image ages by itself."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pose_runtime import admission
from pose_runtime.admission import MOST_PLACES, Admission, check_limit, places_file
from pose_runtime.errors import ServerFull, ServerStopping, SpecError

MS, S = 10**6, 10**9


@pytest.fixture
def models(tmp_path: Path) -> tuple[Admission, Admission]:
    """Two models of one server."""
    return Admission(tmp_path / "places"), Admission(tmp_path / "places")


@pytest.fixture
def wait(monkeypatch) -> Callable[[int], None]:
    """Lets time pass, in nanoseconds."""
    now = [100 * S]
    monkeypatch.setattr(admission.time, "monotonic_ns", lambda: now[0])

    def wait(nanoseconds: int) -> None:
        now[0] += nanoseconds

    return wait


def passed_on(model: Admission, images: int, limit: int = 4, deadline_ns: int = 0) -> list[int]:
    names = model.take(images, limit=limit, deadline_ns=deadline_ns)
    model.pass_on(names)
    return names


def test_images_beyond_the_limit_are_refused_until_others_are_done(models):
    first, last = models
    three = passed_on(first, 3)
    passed_on(first, 1)

    with pytest.raises(ServerFull, match="at most 4 images under way, got 4 already; ask again"):
        first.take(1, limit=4)

    last.give_back(three[:1])
    passed_on(first, 1)
    assert first.count() == last.count() == 4


def test_a_request_that_is_larger_than_the_limit_is_taken_alone(models):
    first, last = models

    names = passed_on(first, 9)
    with pytest.raises(ServerFull):
        first.take(1, limit=4)
    last.give_back(names)
    passed_on(first, 9)


def test_a_place_is_given_back_once_and_only_by_its_name(models):
    first, last = models
    name, *_ = passed_on(first, 3)

    last.give_back([name, name])
    last.give_back([name])
    last.give_back([0, 1, 2, 3, name + MOST_PLACES])

    assert first.count() == 2


def test_names_are_not_used_again(models):
    first, last = models
    seen: set[int] = set()
    for _ in range(2 * MOST_PLACES):
        names = passed_on(first, 1)
        assert not seen & set(names)
        seen |= set(names)
        last.give_back(names)


def test_an_image_that_never_comes_is_lost_after_a_second_of_quiet(models, wait):
    first, _ = models
    passed_on(first, 4)

    wait(900 * MS)
    assert first.count() == 4
    wait(200 * MS)
    assert first.count() == 0
    passed_on(first, 4)


def test_an_image_whose_turn_has_not_come_is_not_lost(models, wait):
    """A full server whose network takes 0.3 s for each of 20 images, one after the other."""
    first, last = models
    waiting = passed_on(first, 20, limit=20)

    for left in range(20, 0, -1):
        assert first.count() == left
        assert last.claim(waiting[:1]) is not None
        wait(300 * MS)
        assert first.count() == left
        last.give_back(waiting[:1])
        waiting = waiting[1:]


def test_an_image_is_lost_a_second_after_its_turn_under_traffic(models, wait):
    """As a sender's that gave up while the network worked on others: nothing else tells."""
    first, last = models
    passed_on(first, 1)

    for _ in range(13):
        wait(100 * MS)
        (other,) = passed_on(first, 1)
        assert last.claim([other]) is not None
        last.give_back([other])

    assert first.count() == 0


def test_an_image_between_the_last_two_models_is_lost_too(models, wait):
    first, last = models
    names = passed_on(first, 1)
    last.claim(names)
    last.pass_on(names)

    wait(900 * MS)
    assert first.count() == 1
    wait(200 * MS)
    assert first.count() == 0
    assert last.claim(names) is None


def test_a_network_that_is_not_ours_may_take_long(models, wait):
    """Only grouping claims: the pauses between its claims say how fast the network is."""
    first, last = models
    waiting = [passed_on(first, 8, limit=64) for _ in range(4)]

    wait(1500 * MS)
    last.claim(waiting[0])
    last.give_back(waiting[0])
    wait(1500 * MS)

    assert first.count() == 24


def test_work_in_progress_is_not_lost_unless_it_takes_longer_than_any(models, wait):
    first, last = models
    first.take(1, limit=4)
    last.claim(passed_on(first, 1))

    wait(9 * S)
    assert first.count() == 2
    wait(2 * S)
    assert first.count() == 0


def test_a_place_ends_with_its_deadline_while_nobody_works_on_it(models, wait):
    first, last = models
    waiting = passed_on(first, 1, deadline_ns=100 * S + 150 * MS)
    worked_on = passed_on(first, 1, deadline_ns=100 * S + 150 * MS)
    last.claim(worked_on)

    wait(100 * MS)
    assert first.count() == 2
    wait(100 * MS)
    assert first.count() == 1
    assert last.claim(waiting) is None
    last.give_back(worked_on)
    assert first.count() == 0


def test_a_full_server_notices_lost_images_when_it_is_asked(models, wait):
    first, _ = models
    passed_on(first, 4)
    wait(1100 * MS)

    passed_on(first, 4)


def test_no_limit_is_larger_than_the_table():
    assert check_limit(1) == 1
    assert check_limit(MOST_PLACES // 2) == MOST_PLACES // 2
    for limit in (0, -1, MOST_PLACES // 2 + 1):
        with pytest.raises(SpecError, match="max_images_under_way: expected 1 to 2048, got"):
            check_limit(limit)


def test_a_full_table_is_a_full_server(models):
    first, _ = models
    passed_on(first, MOST_PLACES, limit=1)

    with pytest.raises(ServerFull):
        first.take(1, limit=2 * MOST_PLACES)


def _come_and_go(file: Path, times: int) -> None:
    model = Admission(file)
    for _ in range(times):
        model.give_back(passed_on(model, 1, limit=10**6))
        passed_on(model, 1, limit=10**6)


def test_processes_do_not_lose_each_others_images(tmp_path, wait):
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_come_and_go, args=(tmp_path / "places", 500)) for _ in range(3)
    ]
    for other in others:
        other.start()
    for other in others:
        other.join()

    model = Admission(tmp_path / "places")
    with pytest.raises(ServerFull, match="got 1500 already"):
        passed_on(model, 1, limit=1500)
    passed_on(model, 1, limit=1501)


def test_a_long_pause_is_forgotten_in_tenths(models, wait):
    """Each image that goes on takes a tenth of what the longest pause was."""
    first, last = models

    def lasts(claims: int) -> int:
        """ms that a waiting image lasts after one pause of 2 s and so many claims at once."""
        names = passed_on(first, 1 + claims, limit=64)
        wait(2 * S)
        for name in names:
            last.claim([name])
        last.give_back(names)
        passed_on(first, 1, limit=64)
        for milliseconds in range(0, 6000, 50):
            if first.count() == 0:
                return milliseconds
            wait(50 * MS)
        return 6000

    assert 4000 < lasts(0) <= 4100
    assert 4000 * 0.9**3 < lasts(3) <= 4000 * 0.9**3 + 100
    assert 1000 < lasts(30) <= 1100


def test_a_stopping_server_takes_no_image_and_ends_those_under_way(models):
    first, last = models
    names = passed_on(first, 2)
    last.close()

    with pytest.raises(ServerStopping):
        first.take(1, limit=4)
    assert last.claim(names) is not None
    last.give_back(names)
    assert first.count() == 0


def test_it_is_known_when_an_image_last_went_on(models, wait):
    first, last = models
    (name,) = passed_on(first, 1)
    assert first.moved_ns == 0
    wait(S)
    last.claim([name])
    assert first.moved_ns == 101 * S
    wait(S)
    last.pass_on([name])
    assert first.moved_ns == 102 * S
    wait(S)
    last.give_back([name])
    assert first.moved_ns == 103 * S


def test_the_file_of_a_server_has_its_number_and_start(tmp_path, monkeypatch):
    """The start of a process, so that another one of its number counts anew."""
    since = round(psutil.Process().create_time() - psutil.boot_time())
    name = places_file(os.getpid())
    kind, number, start = name.removesuffix(".places").split("-")
    assert (kind, int(number)) == ("bodypose", os.getpid())
    assert int(start) / os.sysconf("SC_CLK_TCK") == pytest.approx(since, abs=2)

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    Admission.of_this_server().take(2, limit=4)
    assert Admission(tmp_path / places_file(os.getppid())).count() == 2
    assert (tmp_path / places_file(os.getppid())).stat().st_mode & 0o777 == 0o600


def test_a_place_may_be_waited_for_at_its_deadline(models, wait):
    first, _ = models
    passed_on(first, 1, deadline_ns=100 * S + 150 * MS)
    passed_on(first, 1, deadline_ns=0)
    wait(150 * MS)
    assert first.count() == 2
    wait(1)
    assert first.count() == 1


def test_places_that_nobody_has_are_not_claimed(models):
    first, last = models
    (name,) = passed_on(first, 1)
    assert last.claim([]) is None
    assert last.claim([0, name + MOST_PLACES]) is None
    assert last.claim([name, 0]) is not None


def test_names_have_48_bits_that_nobody_can_guess(models):
    first, _ = models
    secrets = [name // MOST_PLACES for name in first.take(200, limit=200)]
    assert all(secret % 2 for secret in secrets)
    assert 2**47 < max(secrets) < 2**48
    assert len(set(secrets)) == 200


def test_it_is_known_when_an_image_was_preprocessed(models, wait):
    """Not when it went on from a later step: its turn comes in the order of the first."""
    first, last = models
    names = first.take(2, limit=4)
    slots = [name % MOST_PLACES for name in names]
    wait(S)
    first.pass_on(names[:1])
    wait(S)
    last.claim(names[:1])
    last.pass_on(names[:1])
    passed, changed = first._table[1], first._table[2]
    assert passed[slots].tolist() == [101 * S, 100 * S]
    assert changed[slots].tolist() == [102 * S, 100 * S]


def test_a_pause_is_counted_from_the_first_image_of_a_batch(models, wait):
    """Since when the model could have worked; nothing else has moved."""
    first, last = models
    names = first.take(2, limit=4)
    first.pass_on(names[:1])
    wait(3 * S)
    first.pass_on(names[1:])
    wait(S)
    last.claim(names)
    assert first._cells[admission._PAUSE] == 4 * S
