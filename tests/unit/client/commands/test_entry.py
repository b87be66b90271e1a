import shutil
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from bodypose_client import __version__
from bodypose_client.cli import app as client_app
from bodypose_client.commands import entry
from bodypose_loadtest.cli import app as loadtest_app
from bodypose_tools.cli import app as tools_app
from pose_runtime.errors import PoseError


@pytest.mark.parametrize("app", [tools_app, client_app, loadtest_app])
def test_every_command_says_its_version(app):
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"bodypose-triton {__version__}\n")


def app_that_raises(error):
    app = typer.Typer()

    @app.command()
    def fail():
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PoseError("depth: expected 3, got 4"), "error: depth: expected 3, got 4\n"),
        (
            shutil.Error([("a", "/tmp/b", "[Errno 28] No space left on device: 'a' -> '/tmp/b'")]),
            "error: /tmp/b: expected room to write, got `No space left on device`; make room, or"
            " set TMPDIR\n",
        ),
        (
            OSError(28, "No space left on device", "/tmp/x"),
            "error: /tmp/x: expected room to write, got `No space left on device`; make room, or"
            " set TMPDIR\n",
        ),
        (
            ModuleNotFoundError("No module named 'cv2'", name="cv2"),
            "error: expected the package cv2, got none; run `pip install -e '.[tools]' -c"
            " constraints.txt`\n",
        ),
    ],
)
def test_what_the_user_can_fix_is_one_line(error, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fail"])
    with pytest.raises(SystemExit) as ended:
        entry.run(app_that_raises(error), {"cv2": "tools"})
    assert ended.value.code == 1
    assert capsys.readouterr().err == said


def test_a_module_of_ours_that_is_missing_is_no_missing_package(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fail"])
    error = ModuleNotFoundError("No module named 'bodypose_tools.gone'", name="bodypose_tools.gone")
    with pytest.raises(ModuleNotFoundError):
        entry.run(app_that_raises(error), {})


def test_evaluate_asks_for_its_scorer_before_it_asks_the_server(tmp_path):
    without = "import sys; sys.modules['pycocotools'] = None; import bodypose_client.cli as cli;"
    command = ["evaluate", "-a", str(tmp_path / "a.json"), "-i", str(tmp_path)]

    ended = subprocess.run(
        [sys.executable, "-c", f"{without} cli.main()", *command],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "error: expected the package pycocotools, got none; run `pip install -e '.[evaluate]' -c"
        " constraints.txt`"
    ]
