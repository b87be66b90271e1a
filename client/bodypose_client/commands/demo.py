"""`pose-client demo`: the page's server, until Ctrl-C."""

from __future__ import annotations

import contextlib
import webbrowser
from typing import Annotated

import typer

from bodypose_client.demo.link import ServerLink
from bodypose_client.errors import ClientError
from bodypose_client.session import DEFAULT_TIMEOUT_S

from .connection import Timeout, address_of, open_client
from .interrupt import until_interrupt
from .shared_options import Command

DEFAULT_PORT = 8088


def add_commands(app: typer.Typer) -> None:
    """Add the command `demo` to `pose-client`."""
    app.command(cls=Command)(demo)


def demo(
    ctx: typer.Context,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Port of the page; 0 takes any free one."
        ),
    ] = DEFAULT_PORT,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser at once.")
    ] = False,
) -> None:
    """Serve a page on this machine that shows people in pictures and in front of the webcam.

    Example: `pose-client demo --open`

    The page needs no pose server to start: it says when there is none and goes on when it is back.
    """
    from bodypose_client.demo.server import HOST, DemoApi, demo_server

    link = ServerLink(lambda: open_client(ctx, timeout))
    with contextlib.closing(link):
        problem = _problem(link)  # or a usage error
        address = str(address_of(ctx))
        with demo_server(DemoApi(link, address), port) as server:
            page = f"http://{HOST}:{server.server_address[1]}"
            typer.echo(f"page    {page}")
            typer.echo(f"server  {f'away ({problem})' if problem else address}")
            typer.echo("ready; Ctrl-C stops it")
            if open_browser:
                webbrowser.open(page)
            with until_interrupt():
                server.serve_forever()


def _problem(link: ServerLink) -> str | None:
    try:
        link.check()
    except ClientError as error:
        return str(error)
    return None
