import itertools
import threading
import time

import pytest

from bodypose_client.in_flight import map_in_order, map_in_order_asyncio
from pose_runtime.errors import ContractError


def test_answers_keep_the_order_of_the_questions():
    def slow_when_even(number):
        time.sleep(0.01 if number % 2 == 0 else 0)
        return number

    assert list(map_in_order(slow_when_even, range(20), in_flight=4)) == list(range(20))


def test_no_more_than_in_flight_at_a_time():
    lock, now, most = threading.Lock(), 0, 0

    def ask(number):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1

    list(map_in_order(ask, range(30), in_flight=3))

    assert most == 3


def test_endless_questions_are_read_as_answers_are_taken():
    asked = itertools.count()
    answers = map_in_order(lambda number: number, asked, in_flight=2)

    assert list(itertools.islice(answers, 10)) == list(range(10))
    answers.close()
    assert next(asked) <= 10 + 2 * 2


def test_an_error_comes_out_in_its_turn():
    answers = map_in_order(lambda number: 1 // (2 - number), range(10), in_flight=2)

    assert [next(answers), next(answers)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(answers)


def test_nothing_asked_nothing_answered():
    assert list(map_in_order(str, [], in_flight=2)) == []


@pytest.mark.parametrize("in_flight", [0, -1])
@pytest.mark.parametrize("many", [map_in_order, map_in_order_asyncio])
def test_less_than_one_at_a_time_is_refused_at_once(many, in_flight):
    with pytest.raises(ContractError, match=rf"in_flight: expected at least 1 .* got {in_flight}"):
        many(print, [1], in_flight)
