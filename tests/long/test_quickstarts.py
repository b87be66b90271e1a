"""The three quickstarts, followed block by block, with a real server and the shipped model."""

import os
import re
import shutil
import signal

import cv2
import pytest

from bodypose_client.pictures.examples import EXAMPLES
from tests.pages import ROOT, Desk, blocks
from tests.processes import free_port, until_ready, wait_for

pytestmark = pytest.mark.triton

WAIT_S = 30


@pytest.fixture
def desk(tmp_path):
    """A folder with the photo that the pages speak of: four drawn people."""
    shutil.copyfile(EXAMPLES["friends"], tmp_path / "photo.jpg")
    return Desk(tmp_path, *(f"127.0.0.1:{free_port()}" for _ in range(2)))


def page(name):
    """The install block, and the other blocks that run."""
    found = [block for block in blocks(ROOT / "docs" / name) if block[0] != "text"]
    assert found[0][1].startswith("pip install"), name
    return found[0][1], found[1:]


def readme():
    """The lines "by hand", without what they say about themselves."""
    (block,) = [body for _, body in blocks(ROOT / "README.md") if "build-repo" in body]
    return [line.partition("  #")[0].strip() for line in block.splitlines()]


def installed(desk, line):
    """The line asks for what is here: pip finds nothing that it would have to change."""
    shutil.copytree(ROOT, desk.folder / "checkout", ignore=shutil.ignore_patterns(".*", "build"))
    line = line.strip().replace("pip install", "python -m pip install --dry-run")
    would = [
        each for each in desk.run("sh", f"cd checkout && {line}").splitlines() if "Would" in each
    ]
    assert re.fullmatch("Would install bodypose-triton-[0-9.]+", would[0]), would


@pytest.mark.usefixtures("ctrl_c")
def test_serve_ask_and_stop(desk):
    install, (serve, *ask) = page("quickstart-serve.md")
    installed(desk, install)
    readme_install, readme_serve, readme_ask = readme()
    assert (readme_install, readme_serve.replace(" && ", "\n")) == (
        install.strip(),
        serve[1].strip(),
    )

    with desk.start(serve[1]) as serving:
        try:
            said = until_ready(serving)
            assert "bodypose_network" in said
            printed = "".join(desk.run(*block) for block in ask)
            assert "4 people" in desk.run("sh", readme_ask)
        finally:
            os.killpg(serving.pid, signal.SIGINT)
        wait_for(lambda: serving.poll() is not None, WAIT_S)

    assert "4 people" in printed
    assert "bodypose_network" in printed
    assert cv2.imread(str(desk.folder / "people.jpg")) is not None
    assert '"num_people"' in (desk.folder / "answer.json").read_text()


def test_train_evaluate_export_and_build(desk):
    install, steps = page("quickstart-train.md")
    installed(desk, install)

    printed = "".join(desk.run(*block) for block in steps)

    assert "AP50   1.000" in printed
    assert (desk.folder / "run/curves.png").stat().st_size > 5_000
    assert (desk.folder / "build/model_repository/bodypose/config.pbtxt").is_file()


@pytest.mark.usefixtures("ctrl_c")
def test_a_program_finds_people(desk):
    install, steps = page("quickstart-client.md")
    installed(desk, install)

    with desk.start("tools build-repo\ntools serve") as serving:
        try:
            until_ready(serving)
            printed = [desk.run(*block) for block in steps]
        finally:
            os.killpg(serving.pid, signal.SIGINT)
        wait_for(lambda: serving.poll() is not None, WAIT_S)

    people, many, _ = printed
    assert people.count("18 joints, nose at") == 4
    assert many.splitlines() == ["4 people"] * 8
    assert (desk.folder / "people.jsonl").read_text().count("\n") == 1
