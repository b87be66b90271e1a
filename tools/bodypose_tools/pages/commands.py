"""`tools results`: the check of records and pages, the pages' generated blocks, and measuring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_client.commands.shared_options import Group, PlainCommand

RootOption = Annotated[Path, typer.Option(help="The checkout.", exists=True, file_okay=False)]

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Records of measurements under docs/results, and the pages that quote them.\n\n"
    "Example: `tools results check`",
)


@app.command(cls=PlainCommand)
def check(
    code: Annotated[
        bool,
        typer.Option(
            "--code",
            help="A record whose code has changed since is an error, unless it is of a GPU or of an"
            " experiment that no command repeats.",
        ),
    ] = False,
    root: RootOption = Path(),
) -> None:
    """List records of other models than the shipped, numbers of pages that no record holds, and
    records whose code has changed since. Exit code 1 for the first two, with --code for the third.

    Example: `tools results check --code`
    """
    from .check import findings

    found = findings(root.resolve(), judges_code=code)
    for finding in found:
        typer.echo(str(finding), err=finding.is_error)
    errors = [finding for finding in found if finding.is_error]
    typer.echo(f"{len(found)} findings, {len(errors)} of them errors")
    if errors:
        raise typer.Exit(1)


@app.command(cls=PlainCommand)
def pages(
    root: RootOption = Path(),
) -> None:
    """Write the generated blocks of every page from the records under docs/results.

    Example: `tools results pages`
    """
    write_pages(root.resolve())


def write_pages(root: Path) -> None:
    from bodypose_tools.files.atomic_files import atomic_path

    from .blocks import Records, written_pages

    for page, text in written_pages(root, Records(root / "docs/results")):
        if page.read_text() != text:
            with atomic_path(page) as temporary:
                temporary.write_text(text)
            typer.echo(str(page))


@app.command("list", cls=PlainCommand)
def list_pages(root: RootOption = Path()) -> None:
    """List what measures the records of each page again, and how long it took.

    Example: `tools results list`
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from .measuring import duration, page_commands

    table = Table("name", "page", "records", "took", "needs", box=None)
    for page in page_commands(root.resolve()):
        took = duration(page.took_s(root.resolve()))
        table.add_row(page.name, page.page, " ".join(page.records), took, escape(page.needs))
    Console().print(table)


@app.command(cls=PlainCommand)
def measure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A page of `tools results list`.")],
    coco: Annotated[
        Path,
        typer.Option(
            envvar="COCO_DIR",
            help="Folder of COCO's annotation files, train and val.",
            exists=True,
            file_okay=False,
        ),
    ] = Path("../shared/coco"),
    root: RootOption = Path(),
) -> None:
    """Measure the records of one page again, and write its blocks.

    Example: `tools results measure security`
    """
    from . import measuring

    page = measuring.named(root.resolve(), name)
    for command in measuring.measure(root.resolve(), page, coco):
        typer.echo(f"$ {command}")
    write_pages(root.resolve())
