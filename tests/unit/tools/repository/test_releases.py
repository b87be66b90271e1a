"""Which TensorRT and which config fields a release of Triton's container has."""

import pytest

from bodypose_tools.repository.releases import (
    EMBEDDED,
    TritonVersion,
    TritonVersionError,
    knows,
    why_plan_does_not_load,
)


def reason(built_with: str, server: str, version_compatible: bool = False) -> str | None:
    return why_plan_does_not_load(built_with, version_compatible, TritonVersion.parse(server))


@pytest.mark.parametrize(
    ("built_with", "server"),
    [
        ("11.1.0.106", "26.07"),
        ("10.13.3.9", "25.10"),
        ("10.15.1.29", "26.02"),  # between 10.14.1 and 10.16.1: nobody says otherwise
        ("11.4.0.106", "26.10"),  # newer than everything that is known
    ],
)
def test_a_plan_of_the_servers_tensorrt_fits(built_with, server):
    assert reason(built_with, server) is None


@pytest.mark.parametrize(
    ("built_with", "server", "has"),
    [
        ("10.13.3.9", "26.07", "TensorRT 11.1.0"),
        ("11.4.0.106", "26.07", "TensorRT 11.1.0"),
        ("11.0.0.114", "26.02", "TensorRT at least 10.14.1 and at most 10.16.1"),
        ("10.13.3.9", "26.02", "TensorRT at least 10.14.1 and at most 10.16.1"),
        ("10.16.1.11", "26.09", "TensorRT at least 11.1.0"),
        ("10.12.0.36", "24.10", "TensorRT at most 10.11.0"),
    ],
)
def test_a_plan_of_another_tensorrt_does_not(built_with, server, has):
    assert reason(built_with, server) == has


def test_a_version_compatible_plan_goes_to_newer_servers_only():
    assert reason("10.13.3.9", "26.07", version_compatible=True) is None
    assert reason("11.4.0.106", "26.07", version_compatible=True) == "TensorRT 11.1.0"


def test_a_field_is_known_from_a_release_on():
    assert not knows(EMBEDDED, "max_inflight_requests")
    assert not knows(TritonVersion(26, 4), "max_inflight_requests")
    assert knows(TritonVersion(26, 5), "max_inflight_requests")
    assert knows(TritonVersion(27, 1), "max_inflight_requests")


@pytest.mark.parametrize("text", ["2.71.0", "26.7", "26.13", "r26.07", ""])
def test_what_is_no_release_is_refused(text):
    with pytest.raises(TritonVersionError, match=r"expected a release .* such as 26\.07"):
        TritonVersion.parse(text)


@pytest.mark.parametrize("text", [26.07, None, "26.7"])
def test_a_record_s_other_value_is_no_release(text):
    with pytest.raises(TritonVersionError, match="expected a release of Triton's container"):
        TritonVersion.parse(text)
