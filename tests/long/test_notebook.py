"""docs/notebook.ipynb, run from its first cell to its last as a reader would."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.coco import COCO
from tests.pages import ROOT

pytestmark = pytest.mark.triton

NOTEBOOK = ROOT / "docs/notebook.ipynb"
RUN = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=400).execute()
nbformat.write(notebook, sys.argv[2])
"""


def cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_it_is_kept_without_outputs():
    assert len(cells(NOTEBOOK)) >= 6
    for cell in cells(NOTEBOOK):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    for package in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package, reason="needs the extras `notebook` and `dev`")
    folder = tmp_path_factory.mktemp("desk")
    settings = {
        "COCO_DIR": str(COCO),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_CONFIG_DIR": str(folder / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(NOTEBOOK), "out.ipynb"],
        cwd=folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return cells(folder / "out.ipynb")


def text_of(outputs):
    return "".join(
        "".join(each.get("text") or each.get("data", {}).get("text/plain", "")) for each in outputs
    )


def test_it_finds_the_four_people_and_draws_them(executed):
    (cell,) = [cell for cell in executed if "draw_poses(" in "".join(cell["source"])]
    assert len(re.findall(r"^0\.\d\d  18 joints", text_of(cell["outputs"]), re.M)) == 4
    assert any("image/png" in each.get("data", {}) for each in cell["outputs"])


def test_it_reaches_an_ap_on_ten_images(executed):
    (cell,) = [cell for cell in executed if "evaluate_server(" in "".join(cell["source"])]
    said = text_of(cell["outputs"])
    assert "images=10" in said
    assert float(re.search(r"ap=([0-9.]+)", said)[1]) > 0.2


def test_it_ends_the_server_and_leaves_no_error(executed):
    kinds = {each["output_type"] for cell in executed for each in cell["outputs"]}
    assert "error" not in kinds
    assert all(cell["execution_count"] for cell in executed)
