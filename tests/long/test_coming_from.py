"""The pages for people of other projects: three commands from their file to a server, followed."""

from __future__ import annotations

import os
import re
import shutil
import signal

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper

from bodypose_tools.adoption.presets import PRESETS
from bodypose_tools.adoption.settings import Background, FieldOrder, PresetName
from tests.pages import ROOT, Desk, blocks
from tests.processes import free_port, until_ready, wait_for
from tests.unit.tools.foreign_networks import picture, write_drawn_network

WAIT_S = 30
PAGES = ("tao", "openpose", "lightweight-openpose", "trt-pose")
FOLLOWED = [
    (page, body)
    for page in PAGES
    for _, body in blocks(ROOT / f"docs/coming-from-{page}.md")
    if body.startswith("tools adopt")
]


def written(path, preset: PresetName):
    """The project's drawn network, with an open size where the page gives it."""
    write_drawn_network(path, preset)
    if preset in (PresetName.TAO, PresetName.TAO_SDK):
        model = onnx.load(path)
        (value,) = model.graph.input
        dtype = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, dtype, ["N", "h", "w", 3]))
        del model.graph.value_info[:]
        onnx.save(model, path)


@pytest.mark.triton
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("page", "body"), FOLLOWED, ids=[body.split()[2] for _, body in FOLLOWED])
def test_three_commands_serve_their_file(page, body, tmp_path):
    desk = Desk(tmp_path, *(f"127.0.0.1:{free_port()}" for _ in range(2)))
    file, preset = re.search(r"^tools adopt (\S+) .*--preset (\S+)", body).groups()
    written(tmp_path / file, PresetName(preset))
    # PNG, because JPEG changes colours; what a file is, its bytes tell.
    assert cv2.imwrite(str(tmp_path / "photo.png"), picture(PresetName(preset))[:, :, ::-1])
    shutil.move(tmp_path / "photo.png", tmp_path / "photo.jpg")
    *steps, serve = body.splitlines()
    assert len(steps) == 2
    assert serve == "tools serve"
    (ask,) = (b for _, b in blocks(ROOT / f"docs/coming-from-{page}.md") if "pose-client" in b)

    desk.run("sh", "\n".join(steps))
    with desk.start(serve) as serving:
        try:
            until_ready(serving)
            said = desk.run("sh", ask)
        finally:
            os.killpg(serving.pid, signal.SIGINT)
        wait_for(lambda: serving.poll() is not None, WAIT_S)

    assert "2 people" in said
    assert cv2.imread(str(tmp_path / "people.jpg")) is not None


def test_every_preset_is_on_a_page_and_in_the_table():
    assert {re.search(r"--preset (\S+)", body)[1] for _, body in FOLLOWED} == set(PRESETS)
    table = (ROOT / "docs/adopting.md").read_text()
    for name, preset in PRESETS.items():
        (row,) = (line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        convention = preset.convention
        assert preset.skeleton.name in row
        assert preset.source in row
        assert convention.colours.upper() in row
        if convention.background is Background.LAST:
            assert "background last" in row
        assert ("y before x" in row) == (convention.field_order is FieldOrder.YX)
        if len(convention.mean) == 1:
            assert f"(pixel - {convention.mean[0]:g}) / {convention.std[0]:g}" in row
        else:
            assert np.allclose(convention.mean, np.multiply((0.485, 0.456, 0.406), 255))
            assert "ImageNet" in row
