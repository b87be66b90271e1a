"""Every command of the three programs, found in their Typer apps, and one question to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from bodypose_client.cli import app as client_app
from bodypose_loadtest.cli import app as loadtest_app
from bodypose_tools.cli import app as tools_app
from pose_runtime.errors import PoseError

APPS = {"tools": tools_app, "pose-client": client_app, "pose-loadtest": loadtest_app}
LONGEST = 2000  # characters of an error's line


@dataclass(frozen=True)
class Command:
    """One command: its words, such as ("tools", "results", "check"), and its parameters."""

    words: tuple[str, ...]
    params: tuple[Any, ...]

    def __str__(self) -> str:
        return " ".join(self.words)

    def paths(self) -> list[Any]:
        """Parameters that are files or folders."""
        return [each for each in self.params if "Path" in str(_type_of(each))]

    def params_named(self, *names: str) -> list[Any]:
        """Parameters with any of these options, or an argument of that metavar."""
        return [each for each in self.params if {*each.opts, each.name} & {*names}]


def _type_of(param: Any) -> object:
    return getattr(getattr(param, "type_descriptor", None), "annotation", "")


def commands() -> list[Command]:
    """All commands, those of groups included."""
    return [each for name, app in APPS.items() for each in _below((name,), get_command(app))]


def _below(words: tuple[str, ...], command: Any) -> Iterator[Command]:
    """Typer has a Click of its own: its groups are known by what they have."""
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _below((*words, name), each)
    else:
        yield Command(words, tuple(command.params))


def line_of(command: Command, arguments: Sequence[object]) -> str:
    """The one line that a command refuses its arguments with; "" when it ends well.

    Anything that a person would see as a traceback is raised.
    """
    program, *words = command.words
    result = CliRunner().invoke(APPS[program], [*words, *map(str, arguments)])
    error = result.exception
    if error is None:
        return ""
    if isinstance(error, SystemExit):
        return f"exit {error.code}: {result.output.strip()[-LONGEST:]}" if error.code else ""
    if not isinstance(error, PoseError):
        raise error
    line = str(error)
    assert len(line.splitlines()) == 1, line
    assert 0 < len(line) <= LONGEST, line
    return line
