"""`tools results`: the check of records and pages, and the pages' generated blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Records of measurements under docs/results, and the pages that quote them.\n\n"
    "Example: `tools results check`",
)


@app.command()
def check(
    code: Annotated[
        bool, typer.Option("--code", help="Warnings are errors, too: changed code first of all.")
    ] = False,
    root: Annotated[
        Path, typer.Option(help="The checkout.", exists=True, file_okay=False)
    ] = Path(),
) -> None:
    """List records of other models than the shipped, numbers of pages that no record holds, and
    records whose code has changed since. Exit code 1 for the first two.

    Example: `tools results check --code`
    """
    from .check import findings

    found = findings(root.resolve())
    for finding in found:
        typer.echo(str(finding), err=finding.is_error)
    errors = [finding for finding in found if finding.is_error or code]
    typer.echo(f"{len(found)} findings, {len(errors)} of them errors")
    if errors:
        raise typer.Exit(1)


@app.command()
def pages(
    root: Annotated[
        Path, typer.Option(help="The checkout.", exists=True, file_okay=False)
    ] = Path(),
) -> None:
    """Write the generated blocks of every page from the records under docs/results.

    Example: `tools results pages`
    """
    from bodypose_tools.files.atomic_files import atomic_path

    from .blocks import Records, written_pages

    for page, text in written_pages(root.resolve(), Records(root.resolve() / "docs/results")):
        if page.read_text() != text:
            with atomic_path(page) as temporary:
                temporary.write_text(text)
            typer.echo(str(page))
