"""Two minutes in which a third of the requests is given up."""

from __future__ import annotations

import pytest

from bodypose_tools.server.embedded import embedded_server
from tests.giving_up import Senders, places_of, with_slow_network
from tests.processes import wait_for

pytestmark = pytest.mark.triton


@pytest.mark.parametrize("batching", [False, True], ids=["one by one", "batched"])
def test_senders_that_give_up_for_two_minutes_leave_no_place_taken(repository, tmp_path, batching):
    folder = with_slow_network(repository, tmp_path / "slow", batching=batching)
    with embedded_server(folder) as server:
        senders = Senders(server.grpc_url, threads=24)

        senders.run(120)

        assert senders.given_up > 200
        assert senders.answered > 500
        assert senders.refused == []
        wait_for(lambda: places_of(server).count() == 0, seconds=3)
