"""Every command of the three programs, found in their Typer apps, and one question to each."""

from __future__ import annotations

import sys
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
# Built once: it takes longer than most answers do.
PROGRAMS: dict[str, Any] = {name: get_command(app) for name, app in APPS.items()}
LONGEST = 2000  # characters of an error's line


@dataclass(frozen=True)
class Command:
    """One command: its words, such as ("tools", "results", "check"), and its parameters."""

    words: tuple[str, ...]
    params: tuple[Any, ...]
    command: Any

    def __str__(self) -> str:
        return " ".join(self.words)

    def paths(self) -> list[Any]:
        """Parameters that are files or folders."""
        return [each for each in self.params if "Path" in str(_type_of(each))]

    def parsed(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Values by parameter's name, as they stand in the line."""
        context = self.command.context_class(self.command, resilient_parsing=True)
        values, _, _ = self.command.make_parser(context).parse_args(list(arguments))
        return values

    def params_named(self, *names: str) -> list[Any]:
        """Parameters with any of these options, or an argument of that metavar."""
        return [each for each in self.params if {*each.opts, each.name} & {*names}]


def _type_of(param: Any) -> object:
    return getattr(getattr(param, "type_descriptor", None), "annotation", "")


def commands() -> list[Command]:
    """All commands, those of groups included."""
    return [each for name, program in PROGRAMS.items() for each in _below((name,), program)]


def _below(words: tuple[str, ...], command: Any) -> Iterator[Command]:
    """Typer has a Click of its own: its groups are known by what they have."""
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _below((*words, name), each)
    else:
        yield Command(words, tuple(command.params), command)


def line_of(command: Command, arguments: Sequence[object]) -> str:
    """The one line that a command refuses its arguments with; "" when it ends well.

    Anything that a person would see as a traceback is raised.
    """
    program, *words = command.words
    with CliRunner().isolation() as (_, _, said):
        try:
            PROGRAMS[program].main([*words, *map(str, arguments)], prog_name=program)
        except PoseError as error:
            line = str(error)
            assert len(line.splitlines()) == 1, line
            assert 0 < len(line) <= LONGEST, line
            return line
        except SystemExit as error:
            sys.stdout.flush()
            sys.stderr.flush()
            output = said.getvalue().decode("utf-8", "replace").strip()
            return f"exit {error.code}: {output[-LONGEST:]}" if error.code else ""
    return ""
