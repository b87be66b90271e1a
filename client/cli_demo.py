"""`pose-client demo`: the page's server, until Ctrl-C."""

from __future__ import annotations

import contextlib
import webbrowser
from typing import Annotated

import typer

from .address import Address, Protocol
from .errors import ClientError
from .pose_client import DEFAULT_TIMEOUT_S

DEFAULT_PORT = 8088


def add_commands(app: typer.Typer) -> None:
    """Give `pose-client` its `demo`."""
    app.command()(demo)


def demo(
    ctx: typer.Context,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where the page is; 0: any free port.")
    ] = DEFAULT_PORT,
    url: Annotated[
        str | None, typer.Option(help="Server and model.", show_default="grpc://127.0.0.1:8001")
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(help="How requests travel, when --url does not say.", show_default="grpc"),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, help="Longest wait for one answer, in seconds.")
    ] = DEFAULT_TIMEOUT_S,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page at once.")] = False,
) -> None:
    """Serve a page on this machine that shows people in pictures and in front of the webcam.

    Example: `pose-client demo --open`

    The page needs no pose server to start: it says when there is none and goes on when it is back.
    """
    from .cli_connection import address_of, open_client
    from .demo_link import ServerLink
    from .demo_server import HOST, DemoApi, demo_server
    from .demo_steps import StepClock, server_statistics

    address = address_of(url, protocol)
    link = ServerLink(lambda: open_client(ctx, url, protocol, timeout))
    api = DemoApi(link, StepClock(server_statistics(address), address.model), str(address))
    with contextlib.closing(link), demo_server(api, port) as server:
        page = f"http://{HOST}:{server.server_address[1]}"
        typer.echo(f"page    {page}")
        typer.echo(f"server  {_there(link, address)}")
        typer.echo("ready; Ctrl-C stops it")
        if open_browser:
            webbrowser.open(page)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _there(link: object, address: Address) -> str:
    try:
        link.check()  # type: ignore[attr-defined]
    except ClientError as error:
        return f"away ({error})"
    return str(address)
