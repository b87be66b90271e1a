"""A minute of the fuzzer: that it starts, sees coverage, and finds nothing at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pose_runtime.extras import install_line

ROOT = Path(__file__).parents[2]


def test_the_fuzzer_runs_and_finds_nothing_at_once(tmp_path):
    pytest.importorskip("atheris", reason=f"needs the extra dev: {install_line('dev')}")
    places = ["--findings", str(tmp_path / "found"), "--out", str(tmp_path / "fuzz.json")]

    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", "--minutes", "1", *places],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads((tmp_path / "fuzz.json").read_text())
    assert result["findings"] == []
    assert result["executions"] > result["corpus"]["seeds"] > 50
    assert result["coverage_edges"] > 200
