"""The command that measures isolation, with few requests; its ratio is for a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pose_runtime.extras import install_line
from tests.coco import COCO, MISSING_COCO

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.triton, pytest.mark.coco]


def test_hostile_requests_change_no_answer_of_the_others(tmp_path):
    if not COCO.is_dir():
        pytest.skip(MISSING_COCO)
    pytest.importorskip("pytriton", reason=f"needs the extra embedded: {install_line('embedded')}")
    options = f"--rounds 2 --requests 60 --images 20 --rate 6 --out {tmp_path / 'isolation.json'}"

    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.isolation", *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    result = json.loads((tmp_path / "isolation.json").read_text())
    assert result["changed_answers"] == 0
    assert result["failed_good_requests"] == {"without": 0, "with": 0}
    assert result["hostile_answers"] == {"INVALID_ARGUMENT": 2 * 15}
    assert result["good_requests"] == 2 * 60
    assert result["within_1_5"] == (result["p99_ratio"] <= 1.5)
    assert done.returncode == (0 if result["p99_ratio"] <= 1.5 else 1)
