import logging
import re

import pytest

from bodypose_client.blocking import as_coroutine, run
from bodypose_client.errors import RequestRejected, ServerBusy, ServerTimeout, ServerUnavailable
from bodypose_client.wire.connection import Model, Request
from bodypose_client.wire.deadline import Deadline
from bodypose_client.wire.retries import NO_RETRIES, PATIENT, Retries, with_retries


def ask(transport, retries, sleep, timeout_s=60.0):
    request = Request(Model("bodypose"), {}, Deadline.after(timeout_s))
    return run(with_retries(transport, retries, as_coroutine(sleep))(request))


def failing(*errors):
    """A transport that raises these errors one after the other, then answers."""
    left = list(errors)

    async def infer(request):
        if left:
            raise left.pop(0)
        return {}

    return infer


def test_busy_and_absent_servers_are_asked_again():
    pauses = []
    transport = failing(ServerBusy("a", "full"), ServerUnavailable("a", "reset"))

    assert ask(transport, Retries(attempts=3), pauses.append) == {}
    assert len(pauses) == 2


def test_pauses_double_and_vary():
    pauses = [Retries(first_pause_s=1, longest_pause_s=4).pause_s(attempt) for attempt in (0, 1, 2)]

    for pause, longest in zip(pauses, (1, 2, 4), strict=True):
        assert longest / 2 <= pause <= longest


def test_the_last_error_comes_out():
    transport = failing(*[ServerBusy("a", "full")] * 3)

    with pytest.raises(ServerBusy):
        ask(transport, Retries(attempts=3), lambda pause: None)


@pytest.mark.parametrize("error", [RequestRejected("bad image"), ServerTimeout("a", 1)])
def test_other_errors_are_not_repeated(error):
    with pytest.raises(type(error)):
        ask(failing(error), Retries(), pytest.fail)


def test_no_retries_asks_once():
    with pytest.raises(ServerBusy):
        ask(failing(ServerBusy("a", "full")), NO_RETRIES, pytest.fail)


def test_the_deadline_is_for_all_tries_together():
    transport = failing(*[ServerBusy("a", "full")] * 3)

    with pytest.raises(ServerBusy):
        ask(transport, Retries(attempts=3, first_pause_s=20), pytest.fail, timeout_s=5)


def test_a_patient_client_outlives_a_server_that_is_started_again():
    pauses = []
    gone = [ServerUnavailable("a", "refused")] * 12

    assert ask(failing(*gone), PATIENT, pauses.append) == {}

    assert len(pauses) == 12
    assert max(pauses) <= 1


def test_pauses_stay_bounded_however_long_it_takes():
    assert PATIENT.pause_s(10**6) <= PATIENT.longest_pause_s


def test_a_repeated_request_is_logged_with_its_reason(caplog):
    caplog.set_level(logging.INFO, "bodypose_client")

    ask(failing(ServerBusy("grpc://here", "queue full")), Retries(), lambda pause: None)

    (record,) = caplog.records
    assert record.name == "bodypose_client.wire.retries"
    assert re.search(r"grpc://here: .* 'queue full'.*; try 2 follows in 0\.\d+ s", record.message)


def test_a_library_says_nothing_by_itself(capfd):
    ask(failing(ServerBusy("grpc://here", "queue full")), Retries(), lambda pause: None)

    assert capfd.readouterr() == ("", "")
    handlers = logging.getLogger("bodypose_client").handlers
    assert [type(handler) for handler in handlers if type(handler) is logging.NullHandler]
