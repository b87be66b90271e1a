"""`make release` in a clone: everything that a release consists of, twice the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pose_runtime import __version__
from tests.pythons import ROOT
from tests.releases import MISSING_HISTORY, has_history


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    name = ("-c", "user.name=t", "-c", "user.email=t@example.invalid")
    command = ["git", "-C", str(folder), *name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def clone(tmp_path) -> Path:
    """A clone of the sources as they are, changes that are not committed included."""
    folder = tmp_path / "clone"
    if not has_history():
        pytest.skip(MISSING_HISTORY)
    git(tmp_path, "init", "--quiet", str(folder))
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard").stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "A release", "--date", "2026-01-01T00:00:00Z")
    return folder


def release(clone: Path, out: Path) -> subprocess.CompletedProcess[str]:
    paths = (clone / "tools", clone / "client", clone / "loadtest", clone)
    return subprocess.run(
        [sys.executable, str(clone / "release.py"), "--out", str(out)],
        env={**os.environ, "PYTHONPATH": ":".join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_release_has_all_its_parts(clone, tmp_path):
    out = tmp_path / "dist"

    made = release(clone, out)

    assert made.returncode == 0, made.stderr
    wheel = f"bodypose_triton-{__version__}-py3-none-any.whl"
    bill = f"bodypose-triton-{__version__}.cdx.json"
    assert {path.name for path in out.iterdir()} == {
        wheel,
        f"bodypose_triton-{__version__}.tar.gz",
        bill,
        "third-party-licences.csv",
        "third-party-licences.txt",
        "RELEASE_NOTES.md",
        "SHA256SUMS",
    }
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=out, check=False)
    assert checked.returncode == 0
    sbom = json.loads((out / bill).read_text())
    assert sbom["metadata"]["component"]["name"] == "bodypose-triton"
    names = {each["name"].lower() for each in sbom["components"]}
    assert {"numpy", "tritonclient", "nvidia-pytriton", "keras"} <= names
    assert not {"ruff", "mypy", "selenium"} & names  # pytest is one of locust's
    assert all(each.get("version") for each in sbom["components"])
    licences = (out / "third-party-licences.csv").read_text()
    assert all(f'"{name}"' in licences.lower() for name in ("numpy", "keras", "grpcio"))
    assert "then: git tag" in made.stdout

    again = tmp_path / "again"
    assert release(clone, again).returncode == 0
    sums = [(folder / "SHA256SUMS").read_text() for folder in (out, again)]
    assert sums[0] == sums[1]


def test_what_git_does_not_have_is_not_released(clone, tmp_path):
    (clone / "README.md").write_text("changed")

    refused = release(clone, tmp_path / "dist")

    assert refused.returncode == 1
    assert refused.stderr.startswith("error: expected a clean tree")


def test_a_version_is_released_once(clone, tmp_path):
    git(clone, "tag", f"v{__version__}")

    refused = release(clone, tmp_path / "dist")

    assert refused.stderr.startswith(f"error: expected a new version, got {__version__}")
