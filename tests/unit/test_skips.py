"""What did not run is said, and fails CI when this machine could have run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips

ROOT = Path(__file__).parents[2]


def run_with_skip(folder: Path, reason: str) -> tuple[int, str]:
    (folder / "test_one.py").write_text(
        f"import pytest\n\n\n@pytest.mark.skip(reason={reason!r})\ndef test_one():\n    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.skips", "--no-needless-skip", "-q"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", f"--rootdir={folder}", folder / "test_one.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def test_a_skip_that_nothing_excuses_fails_the_run(tmp_path):
    code, said = run_with_skip(tmp_path, "did not feel like it")

    assert code == pytest.ExitCode.TESTS_FAILED
    assert "1  did not feel like it; this machine could have run it" in said


def test_what_a_machine_lacks_excuses_a_skip(monkeypatch):
    reason = "needs curl: run `apt-get install curl`"
    monkeypatch.setattr(skips.shutil, "which", lambda program: None)
    assert not skips.needless(reason)
    monkeypatch.setattr(skips.shutil, "which", lambda program: f"/bin/{program}")
    assert skips.needless(reason)
