"""Commands of `tools` inside the test's process."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from bodypose_tools.cli import app


def tools(*arguments: str | Path) -> str:
    """What a command says; it has to succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output
