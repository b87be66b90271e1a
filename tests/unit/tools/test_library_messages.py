"""Known lines of libraries are left out; unknown ones and what a person asks for are shown."""

import os
import subprocess
import sys

import pytest

from bodypose_tools import library_messages

ONEDNN = "I0000 00:00:1 7 port.cc:153] oneDNN custom operations are on. You may see"


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (ONEDNN, True),
        ("WARNING: All log messages before absl::InitializeLog() is called are written", True),
        ("5 out of the last 5 calls to <function f> triggered tf.function retracing.", True),
        ("Empty initializer Resize_153/constant_1 was provided with non-empty data.", True),
        ("logging.cc:303: Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL", True),
        ("E0000 cuda_executor.cc:1228] failed call to cuInit", False),
        ("error: model.onnx: expected a file, got nothing there", False),
    ],
)
def test_only_known_lines_are_left_out(line, known):
    assert library_messages.is_known(line) is known


def test_what_c_libraries_write_is_shown_unless_it_is_known(capfd):
    with library_messages.known_lines_left_out():
        os.write(2, f"{ONEDNN}\nsomething new\n".encode())

    assert capfd.readouterr().err == "something new\n"


def test_an_error_inside_does_not_lose_a_line(capfd):
    def fail() -> None:
        with library_messages.known_lines_left_out():
            os.write(2, b"why\n")
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()

    assert capfd.readouterr().err == "why\n"


def test_a_program_without_stderr_runs(tmp_path):
    program = (
        "from bodypose_tools.library_messages import known_lines_left_out\n"
        "with known_lines_left_out():\n    print('ran')\n"
    )
    (tmp_path / "program.py").write_text(program)

    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} program.py 2>&-"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stdout) == (0, "ran\n")


@pytest.mark.slow
@pytest.mark.parametrize(("option", "quiet"), [((), True), (("-v",), False)])
def test_tensorflow_starts_in_silence_unless_asked(option, quiet, tmp_path):
    line = ["prune", "-m", "none.keras", "-o", "out.keras", *option]

    done = subprocess.run(
        [sys.executable, "-m", "bodypose_tools.cli", *line],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    said = done.stderr.splitlines()
    assert said[-1] == "error: none.keras: expected a file, got nothing there"
    assert (len(said) == 1) is quiet
