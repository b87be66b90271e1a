"""What of another library's error stands in ours."""

import pytest

from pose_runtime.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  no type\nTraceback"), "no type"),
        (KeyError(), "KeyError"),
        (RuntimeError("x" * 1000), "x" * 300),
    ],
)
def test_an_error_of_others_becomes_one_line(error, line):
    assert first_line(error) == line
