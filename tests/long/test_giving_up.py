"""Two minutes in which a third of the requests is given up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from bodypose_tools.server.embedded import embedded_server
from tests.giving_up import Senders, places_of, with_slow_network
from tests.processes import wait_for

pytestmark = pytest.mark.triton


def test_senders_that_give_up_for_two_minutes_leave_no_place_taken(repository, tmp_path):
    """Where requests are taken one by one and where they are batched, at the same time."""
    single = with_slow_network(repository, tmp_path / "single", batching=False)
    batched = with_slow_network(repository, tmp_path / "batched", batching=True)
    with embedded_server(single) as one, embedded_server(batched) as other:
        senders = [Senders(server.grpc_url, threads=24) for server in (one, other)]

        with ThreadPoolExecutor(len(senders)) as pool:
            list(pool.map(lambda each: each.run(120), senders))

        for each in senders:
            assert each.given_up > 200
            assert each.answered > 500
            assert each.refused == []
        wait_for(lambda: places_of(one).count() == places_of(other).count() == 0, seconds=3)
