import numpy as np
import pytest

from bodypose_tools.runtimes.clock import compared
from bodypose_tools.runtimes.network_speed import measure

PIXELS = np.zeros((1, 8, 8, 3), np.uint8)


def test_variants_take_turns_and_are_compared_round_by_round():
    now, order = [0.0], []

    def variant(name: str, seconds: float):
        def run(pixels: np.ndarray) -> None:
            order.append(name)
            now[0] += seconds

        return run

    runs = {"slow": variant("slow", 0.4), "fast": variant("fast", 0.1)}
    sides = compared(measure(runs, PIXELS, rounds=6, clock=lambda: now[0]), "slow")
    assert sides["slow"]["milliseconds"]["median"] == pytest.approx(400)
    assert sides["fast"]["times_as_fast"] == {
        "median": 4.0,
        "p10": 4.0,
        "p90": 4.0,
        "low": 4.0,
        "high": 4.0,
        "pairs": 6,
    }
    rounds = order[6:]  # after the warm-up
    assert rounds == (["slow"] * 3 + ["fast"] * 3 + ["fast"] * 3 + ["slow"] * 3) * 3
