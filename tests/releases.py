"""The release before this one, in the history of git."""

from __future__ import annotations

import shutil
import subprocess

from tests.pythons import ROOT

LAST_RELEASE = "0.1.0"
LAST_COMMIT = "bb4af44b78fe68c625f9cacb122645b04ed1402c"
MISSING_HISTORY = "needs the history of git: clone without --depth"


def has_history() -> bool:
    """Whether this is a checkout of git that reaches back to the last release."""
    if shutil.which("git") is None:
        return False
    command = ["git", "-C", str(ROOT), "cat-file", "-e", f"{LAST_COMMIT}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
