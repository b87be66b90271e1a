"""Three hundred random graphs are pruned; the quick test of the same has a dozen."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.tools.pruning.test_channel_graph import SEEDS, check, random_network

THOROUGH = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@THOROUGH
@given(st.data())
def test_three_hundred_random_graphs(data):
    check(random_network(data.draw), data.draw(SEEDS))
