"""The noise of a machine is told by a fixed job."""

from __future__ import annotations

from itertools import count

import pytest

from bodypose_tools.results.machine import NOISE_RULE, Noise, machine


@pytest.mark.parametrize(("slower", "noisy"), [(1.0, False), (1.14, False), (1.16, True)])
def test_a_machine_whose_fixed_job_varies_is_too_noisy(slower, noisy):
    ticks = count()

    def clock():
        """Every job takes 1 s; those of the second point take `slower`."""
        tick = next(ticks)
        jobs, inside = divmod(tick, 2)
        return 100 * jobs + inside * (slower if jobs >= 7 else 1.0)

    noise = Noise(clock)
    noise.probe()
    noise.probe()
    said = noise.to_json()
    assert said["fixed_job_ms"] == [1000.0, 1000 * slower]
    assert said["spread"] == pytest.approx(slower - 1)
    assert (said["too_noisy"], said["limit"]) == (noisy, NOISE_RULE)


def test_the_machine_has_a_name_and_cores():
    described = machine()
    assert set(described) == {"cpu", "gpu", "instructions", "cores"}
    assert described["cores"] >= 1
