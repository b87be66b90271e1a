import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.model_comparison import joint_shifts
from tools.repository import SHIPPED_MODEL


def test_a_joints_shift_is_the_way_to_the_nearest_of_the_other_model():
    peaks = np.zeros((1, 2, 2, 3), np.float32)
    peaks[0, 0, 0] = 10, 10, 0.9
    peaks[0, 1, 0] = 5, 5, 0.9
    others = np.zeros_like(peaks)
    others[0, 0] = [[40, 10, 0.9], [13, 14, 0.5]]
    assert joint_shifts(peaks, others, 0.1).tolist() == [5.0]  # joint 1 has no other peak


@pytest.mark.slow
def test_a_model_is_not_far_from_itself(tmp_path):
    out = tmp_path / "compared.json"
    files = (str(SHIPPED_MODEL), str(SHIPPED_MODEL))
    result = CliRunner().invoke(app, ["compare", *files, "--json", str(out)])
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    assert record["joints"]["agreement"] == 1
    assert record["joints"]["shift_px"] == {"median": 0, "p95": 0, "max": 0}
