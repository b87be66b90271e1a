"""The mutants of annotations and of other files, 400 of each: no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "tests",
    ["tests/unit/tools/data/test_annotation_cases.py", "tests/unit/tools/files/test_mutants.py"],
)
def test_many_mutants_are_read_or_refused_in_one_line(tests):
    many = {"ANNOTATION_MUTANTS": "2000", "FILE_MUTANTS": "400"}
    command = [sys.executable, "-m", "pytest", "-q", "-k", "mutant", tests]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | many, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-4000:]
