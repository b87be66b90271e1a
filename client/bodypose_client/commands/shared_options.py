"""Options of a whole program, such as `--token`, which work before and after the command."""

from __future__ import annotations

import copy
from enum import EnumType
from pathlib import Path
from typing import Any, get_args, get_origin

from typer.core import TyperCommand, TyperGroup

from bodypose_client.files.outputs import refuse_inputs_as_outputs

_PANEL = "Of every command"
_WIDEST_CHOICES = 20  # columns of `a|b|c` in a page of 80


class _Readable:
    """Pages of help whose column of types is narrow, and of which no line shows Python."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, each with its type as a person reads it."""
        own: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for each in own:
            _shorten_type(each)
        return own


class Group(_Readable, TyperGroup):
    """A program, or commands that belong together."""


class PlainCommand(_Readable, TyperCommand):
    """A command that takes its own options only, and writes over nothing that it reads."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        left = super().parse_args(ctx, args)
        refuse_inputs_as_outputs(ctx.meta, ctx.params)
        return left


class Command(PlainCommand):
    """A command that takes its program's options, too.

    One that is given here replaces the value in `ctx.parent.params`, where commands read it.
    """

    _shared: list[Any] | None = None

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters, then its program's."""
        own = super().get_params(ctx)
        if ctx.parent is None:  # a command by itself, which must not forget its program's options
            return own
        if self._shared is None:
            program = ctx.parent.command.get_params(ctx.parent)
            self._shared = [
                _shared(each) for each in program if each.expose_value and not each.is_eager
            ]
        taken = {name for each in own for name in each.opts}
        return [*own, *(each for each in self._shared if not taken & {*each.opts})]


def _shorten_type(parameter: Any) -> None:
    """Nothing for a flag, `N` for a number with bounds, `NAME` for many choices, no `list`."""
    described = getattr(parameter, "type_descriptor", None)
    kind: Any = getattr(described, "annotation", None)
    many = get_origin(kind) is list
    kind = get_args(kind)[0] if many else kind
    choices: list[Any] = list(kind.__members__.values()) if isinstance(kind, EnumType) else []
    names = "|".join(map(str, choices))
    shown = None
    if kind is bool:
        shown = ""
    elif any(getattr(parameter, bound, None) is not None for bound in ("min", "max")):
        shown = "N"
    elif len(names) > _WIDEST_CHOICES:
        shown = "NAME"
    elif many and described is not None:
        shown = f"<{names or (described.path_type if kind is Path else 'str')}>"
    if parameter.param_type_name == "argument":
        parameter.metavar = parameter.metavar or parameter.name.upper()
        if shown is not None:
            parameter.display_type_rich = lambda ctx: shown
    elif parameter.metavar is None and shown is not None:
        parameter.metavar = shown
        if shown == "NAME":
            parameter.help = f"{parameter.help} One of {', '.join(map(str, choices))}."


def _shared(option: Any) -> Any:
    """A copy of a program's option for one of its commands."""
    shared, first = copy.copy(option), option.callback

    def keep(ctx: Any, parameter: Any, value: Any) -> None:
        if ctx.get_parameter_source(parameter.name).name == "COMMANDLINE":
            ctx.parent.params[parameter.name] = first(ctx, parameter, value) if first else value

    shared.callback, shared.expose_value, shared.required = keep, False, False
    shared.rich_help_panel = option.rich_help_panel or _PANEL
    return shared
