"""How all our commands begin and end: `--version`, and errors of one line."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from pose_runtime import __version__
from pose_runtime.errors import PoseError
from pose_runtime.extras import explained

_FULL = (errno.ENOSPC, errno.EDQUOT)  # any write may meet it


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bodypose-triton {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", help="Print the version and exit.", callback=_say_version, is_eager=True
    ),
]


def _show_log(asked: bool) -> None:
    if asked:
        log, handler = logging.getLogger("bodypose_client"), logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Show on stderr what is tried again.", callback=_show_log),
]


def complain(problem: str) -> None:
    """One line on stderr."""
    typer.secho(f"error: {problem}", err=True, fg=typer.colors.RED)


def run(app: typer.Typer, extra_of: Mapping[str, str]) -> None:
    """Run a command; an error that the user can fix is one line on stderr and exit code 1.

    Args:
        app: the command.
        extra_of: where this command needs another extra than `pose_runtime.extras.EXTRA_OF` names.
    """
    try:
        app()
    except PoseError as error:
        complain(str(error))
        sys.exit(1)
    except OSError as error:
        place, reason, number = error.filename, error.strerror, error.errno
        if isinstance(error, shutil.Error):  # of a folder: source, target and reason of each file
            _, place, reason = error.args[0][0]
            number = errno.ENOSPC if os.strerror(errno.ENOSPC) in reason else None
            reason = os.strerror(errno.ENOSPC)
        if number not in _FULL:
            raise
        place = place or "a file, perhaps in the temporary folder"
        complain(f"{place}: expected room to write, got `{reason}`; make room, or set TMPDIR")
        sys.exit(1)
    except ModuleNotFoundError as error:
        problem = explained(error, extra_of)
        if problem is error:
            raise
        complain(str(problem))
        sys.exit(1)
