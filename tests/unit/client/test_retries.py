import pytest

from client.errors import RequestRejected, ServerBusy, ServerTimeout, ServerUnavailable
from client.retries import NO_RETRIES, Retries, with_retries
from client.transport import Model

MODEL = Model("bodypose")


def failing(*errors):
    """A transport that raises these errors one after the other, then answers."""
    left = list(errors)

    def infer(model, inputs):
        if left:
            raise left.pop(0)
        return {}

    return infer


def test_busy_and_absent_servers_are_asked_again():
    pauses = []
    transport = failing(ServerBusy("a", "full"), ServerUnavailable("a", "reset"))

    assert with_retries(transport, Retries(attempts=3), pauses.append)(MODEL, {}) == {}
    assert len(pauses) == 2


def test_pauses_double_and_vary():
    pauses = [Retries(first_pause_s=1).pause_s(attempt) for attempt in (0, 1, 2)]

    for pause, longest in zip(pauses, (1, 2, 4), strict=True):
        assert longest / 2 <= pause <= longest


def test_the_last_error_comes_out():
    transport = failing(*[ServerBusy("a", "full")] * 3)

    with pytest.raises(ServerBusy):
        with_retries(transport, Retries(attempts=3), lambda pause: None)(MODEL, {})


@pytest.mark.parametrize("error", [RequestRejected("bad image"), ServerTimeout("a", 1)])
def test_other_errors_are_not_repeated(error):
    with pytest.raises(type(error)):
        with_retries(failing(error), Retries(), pytest.fail)(MODEL, {})


def test_no_retries_asks_once():
    with pytest.raises(ServerBusy):
        with_retries(failing(ServerBusy("a", "full")), NO_RETRIES, pytest.fail)(MODEL, {})
