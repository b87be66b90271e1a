"""The options for reaching a server, which work before and after each command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bodypose_client.errors import AddressError
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.access import Access, Tls
from bodypose_client.wire.address import DEFAULT_URLS, Address, Protocol
from bodypose_client.wire.connect import connect
from bodypose_client.wire.retries import PATIENT
from bodypose_client.wire.shared_memory import SharedMemory

from .entry import Verbose, Version

PANEL = "Connection"  # of the help of each command

Url = Annotated[
    str | None,
    typer.Option(
        help="Server, and model if it has another name, such as grpc://host:8001/bodypose; grpcs"
        " and https are encrypted.",
        show_default=DEFAULT_URLS[Protocol.GRPC],
        envvar="POSE_CLIENT_URL",
        rich_help_panel=PANEL,
    ),
]
ProtocolOption = Annotated[
    Protocol | None,
    typer.Option(
        help="Protocol of the requests, where --url is not given.",
        show_default=Protocol.GRPC.value,
        rich_help_panel=PANEL,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="POSE_CLIENT_TOKEN",
        help="Token, sent as `authorization: Bearer TOKEN`.",
        rich_help_panel=PANEL,
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME:VALUE",
        help="Header of every request; may be repeated.",
        rich_help_panel=PANEL,
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        envvar="POSE_CLIENT_CA_FILE",
        help="PEM file of the authority to trust, for grpcs and https.",
        rich_help_panel=PANEL,
    ),
]
CertFile = Annotated[
    Path | None,
    typer.Option(
        envvar="POSE_CLIENT_CERT_FILE",
        help="PEM file of your certificate.",
        rich_help_panel=PANEL,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        envvar="POSE_CLIENT_KEY_FILE",
        help="PEM file of your certificate's private key.",
        rich_help_panel=PANEL,
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0.001, metavar="SECONDS", help="Longest wait for one answer.")
]
InFlight = Annotated[int, typer.Option(min=1, metavar="N", help="Number of requests sent at once.")]


def access(
    url: Url = None,
    protocol: ProtocolOption = None,
    token: Token = None,
    header: Headers = None,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    shared_memory: Annotated[
        SharedMemory,
        typer.Option(
            help="How images reach the server: `system` is for a Triton on this host that reads"
            " shared memory, which `tools serve` never does.",
            rich_help_panel=PANEL,
        ),
    ] = SharedMemory.OFF,
    verbose: Verbose = False,
    version: Version = False,
) -> None:
    """The options of `pose-client` itself; `open_client` reads them."""


def address_of(ctx: typer.Context) -> Address:
    """The server that the options name.

    Raises:
        typer.BadParameter: no such address, or of another protocol than `--protocol`.
    """
    given = options_of(ctx)
    protocol = Protocol(given["protocol"]) if given.get("protocol") else None
    url = given.get("url") or DEFAULT_URLS[protocol or Protocol.GRPC]
    try:
        address = Address.parse(url)
    except AddressError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    if protocol and address.protocol is not protocol:
        raise typer.BadParameter(
            f"expected a {protocol} URL as --protocol says, got {url}", param_hint="--url"
        )
    return address


def open_client(ctx: typer.Context, timeout_s: float) -> PoseClient:
    """The client for the options; `ctx.obj` replaces `connect` in a test."""
    address, granted = address_of(ctx), access_of(ctx)
    return PoseClient(
        str(address),
        timeout_s=timeout_s,
        retries=PATIENT,
        connect=ctx.obj or connect,
        headers=granted.headers,
        tls=granted.tls,
        shared_memory=SharedMemory(options_of(ctx).get("shared_memory") or SharedMemory.OFF),
    )


def access_of(ctx: typer.Context) -> Access:
    """What the options show to a server that asks for TLS, a token or headers.

    Raises:
        typer.BadParameter: a header is not NAME:VALUE.
        AddressError: a header that neither protocol can send.
    """
    given = options_of(ctx)
    files = (given.get(f"{name}_file") for name in ("ca", "cert", "key"))
    tls = Tls(*(None if file is None else Path(file) for file in files))
    headers = dict(map(_name_and_value, given.get("header") or []))
    return Access.of(tls, given.get("token"), headers)


def options_of(ctx: typer.Context) -> dict[str, Any]:
    """The options of the whole program, wherever they were given."""
    return ctx.parent.params if ctx.parent else {}


def _name_and_value(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"expected NAME:VALUE, got {text!r}", param_hint="--header")
    return name.strip(), value.strip()
