"""What an upgrade means: the last release and this one, client, server and repository crosswise."""

from __future__ import annotations

import contextlib
import json
import os
import re
import site
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from bodypose_client import PoseClient
from bodypose_tools.data.photos import photo_jpeg
from pose_runtime import __version__
from tests.processes import until_ready
from tests.pythons import ROOT
from tests.releases import LAST_COMMIT, LAST_RELEASE, MISSING_HISTORY, has_history

PORTS = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")


@dataclass(frozen=True)
class Release:
    """The commands of one release, in a folder to stand in."""

    folder: Path  # of the programs
    here: Path
    variables: Mapping[str, str]

    def ended(self, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / name), *map(str, arguments)],
            cwd=self.here,
            env=self.variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, name: str, *arguments: object) -> str:
        ended = self.ended(name, *arguments)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    @contextlib.contextmanager
    def serving(self, repository: Path, said: list[str] | None = None) -> Iterator[str]:
        """The address of a server of this release; `said` gets what it writes to stderr."""
        command = [str(self.folder / "tools"), "serve", str(repository), *PORTS]
        with (
            (self.here / "stderr").open("w+") as stderr,
            subprocess.Popen(
                command,
                cwd=self.here,
                env=self.variables,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as process,
        ):
            try:
                ready = until_ready(process)
                found = re.search(r"^gRPC +(\S+)", ready, re.M)
                assert found, (self.here / "stderr").read_text()
                yield f"grpc://{found[1]}/bodypose"
            finally:
                process.terminate()
                process.wait(60)
                if said is not None:
                    said += (self.here / "stderr").read_text().splitlines()

    def people(self, photo: Path, url: str) -> np.ndarray:
        """(N, J, 3) as this release's client prints them."""
        text = self.run("pose-client", "infer", photo, "--json", "--url", url)
        (answer,) = map(json.loads, text.splitlines())
        return np.array([pose["keypoints"] for pose in answer["poses"]])


def environment(*paths: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "NO_COLOR": "1", "PYTHONPATH": ":".join(map(str, paths))}


@pytest.fixture(scope="module")
def last_wheel(tmp_path_factory) -> Path:
    if not has_history():
        pytest.skip(MISSING_HISTORY)
    git = ["git", "-C", str(ROOT), "archive", LAST_COMMIT]
    archive = subprocess.run(git, capture_output=True, check=True)
    source = tmp_path_factory.mktemp("source")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
        tar.extractall(source, filter="data")
    built(source, source / "dist", "--wheel")
    (wheel,) = (source / "dist").glob("*.whl")
    assert f"-{LAST_RELEASE}-" in wheel.name
    return wheel


def built(source: Path, out: Path, *options: str) -> None:
    command = [sys.executable, "-m", "build", *options, "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="module")
def last(last_wheel: Path, tmp_path_factory) -> Release:
    """The last release in an environment of its own, with this one's packages beneath it."""
    folder = tmp_path_factory.mktemp("last")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env/bin/python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", str(last_wheel)], check=True)
    (packages,) = (folder / "env/lib").glob("python*/site-packages")
    (packages / "beneath.pth").write_text("\n".join(site.getsitepackages()))
    release = Release(folder / "env/bin", folder, environment())
    assert release.run("python", "-c", "import tools; print(tools.__path__)").count(str(folder))
    return release


@pytest.fixture(scope="module")
def this(tmp_path_factory) -> Release:
    paths = (ROOT / "tools", ROOT / "client", ROOT / "loadtest", ROOT)
    return Release(
        Path(sys.executable).parent, tmp_path_factory.mktemp("this"), environment(*paths)
    )


@pytest.fixture(scope="module")
def last_repository(last: Release) -> Path:
    last.run("tools", "build-repo")
    return last.here / "build/model_repository"


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    path.write_bytes(photo_jpeg(640, 480))
    return path


def assert_same_people(one: np.ndarray, other: np.ndarray) -> None:
    assert len(one) == len(other) > 0
    assert np.abs(one - other).max() < 0.01


@pytest.fixture(scope="module")
def as_before(last: Release, last_repository: Path, photo: Path) -> Sequence[np.ndarray]:
    """A photo's people by the last release's server: as its own client and as this one has them."""
    with last.serving(last_repository) as url:
        by_last = last.people(photo, url)
        with PoseClient(url) as client:
            by_this = client.infer(photo).above(0.25).keypoints
    return by_last, by_this


def test_this_client_understands_the_last_server(as_before):
    assert_same_people(*as_before)


def test_the_last_client_understands_this_server(last, this, photo, as_before):
    this.run("tools", "build-repo")

    with this.serving(this.here / "build/model_repository") as url:
        assert_same_people(last.people(photo, url), this.people(photo, url))


def test_this_server_runs_the_last_repository_as_it_was_built_and_says_so(
    this, last_repository, photo, as_before
):
    said: list[str] = []

    with this.serving(last_repository, said) as url:
        assert_same_people(this.people(photo, url), as_before[0])

    (line,) = [line for line in said if f"bodypose-triton {LAST_RELEASE}" in line]
    assert line.endswith(f"`tools build-repo -o OTHER` builds one of {__version__}")


def test_the_last_repository_passes_the_check_with_one_line_about_its_release(
    this, last_repository
):
    checked = this.ended("tools", "check-repo", last_repository)

    assert checked.returncode == 0
    assert len(checked.stderr.splitlines()) == 1


def test_a_version_of_this_release_is_refused_beside_versions_that_pass_other_tensors(
    this, last_repository
):
    before = {path: path.read_bytes() for path in last_repository.rglob("*") if path.is_file()}

    # With the input size of 0.1.0's model: another one is refused as such.
    model = ("--model", "bodypose-xs")
    refused = this.ended("tools", "build-repo", *model, "--version", 2, "-o", last_repository)

    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert f"expected the steps of bodypose-triton {__version__}" in line
    assert before == {
        path: path.read_bytes() for path in last_repository.rglob("*") if path.is_file()
    }


def test_this_release_promotes_and_rolls_back_what_the_last_built(last, this, photo, as_before):
    repository = last.here / "build/versions"
    last.run("tools", "build-repo", "-o", repository)
    last.run("tools", "build-repo", "-o", repository, "--version", 2)

    this.run("tools", "promote", 2, repository)
    with this.serving(repository) as url:
        assert_same_people(this.people(photo, url), as_before[0])
    this.run("tools", "rollback", repository)

    assert last.ended("tools", "check-repo", repository).returncode == 0
    with last.serving(repository) as url:
        assert_same_people(last.people(photo, url), as_before[0])
