from bodypose_tools.benchmark.serving import milliseconds_between


def test_a_request_takes_the_mean_of_those_between_two_readings():
    before = {"network": {"success": (2, 8_000_000), "queue": (2, 1_000_000)}}
    after = {"network": {"success": (6, 20_000_000), "queue": (2, 1_000_000)}}
    assert milliseconds_between(before, after) == {"network": {"success": 3.0, "queue": 0.0}}
