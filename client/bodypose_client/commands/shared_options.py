"""Options of a whole program, such as `--token`, which work before and after the command."""

from __future__ import annotations

import copy
from enum import EnumType
from typing import Any

from typer.core import TyperCommand

_PANEL = "Of every command"
_WIDEST_CHOICES = 20  # columns of `a|b|c` in a page of 80


class Command(TyperCommand):
    """A command that takes its program's options, too.

    One that is given here replaces the value in `ctx.parent.params`, where commands read it.
    """

    _shared: list[Any] | None = None

    def get_params(self, ctx: Any) -> list[Any]:
        """The command's own parameters, then its program's."""
        if self._shared is None:
            program = ctx.parent.command.params if ctx.parent else []
            self._shared = [
                _shared(each) for each in program if each.expose_value and not each.is_eager
            ]
        own = super().get_params(ctx)
        for each in own:
            _shorten_type(each)
        taken = {name for each in own for name in each.opts}
        return [*own, *(each for each in self._shared if not taken & {*each.opts})]


def _shorten_type(option: Any) -> None:
    """Keep the column of types narrow: `N` for numbers with bounds, `NAME` for many choices."""
    if option.metavar is not None or option.param_type_name == "argument":
        return
    kind: Any = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    choices: list[Any] = list(kind.__members__.values()) if isinstance(kind, EnumType) else []
    if any(getattr(option, bound, None) is not None for bound in ("min", "max")):
        option.metavar = "N"
    elif len("|".join(map(str, choices))) > _WIDEST_CHOICES:
        option.metavar = "NAME"
        option.help = f"{option.help} One of {', '.join(map(str, choices))}."


def _shared(option: Any) -> Any:
    """A copy of a program's option for one of its commands."""
    shared, first = copy.copy(option), option.callback

    def keep(ctx: Any, parameter: Any, value: Any) -> None:
        if ctx.get_parameter_source(parameter.name).name == "COMMANDLINE":
            ctx.parent.params[parameter.name] = first(ctx, parameter, value) if first else value

    shared.callback, shared.expose_value, shared.required = keep, False, False
    shared.rich_help_panel = option.rich_help_panel or _PANEL
    return shared
