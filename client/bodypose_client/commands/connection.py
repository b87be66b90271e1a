"""The options for reaching a server, which every command shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bodypose_client.errors import AddressError
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.access import Tls
from bodypose_client.wire.address import DEFAULT_URLS, Address, Protocol
from bodypose_client.wire.connect import connect
from bodypose_client.wire.retries import PATIENT
from bodypose_client.wire.shared_memory import SharedMemory

from .entry import Verbose, Version

_META = "bodypose_client.wire.access"

Url = Annotated[
    str | None,
    typer.Option(
        help="Server, and model if it has another name, such as grpc://host:8001/bodypose; grpcs"
        " and https are encrypted.",
        show_default=f"{DEFAULT_URLS[Protocol.GRPC]}, or {DEFAULT_URLS[Protocol.HTTP]}",
    ),
]
ProtocolOption = Annotated[
    Protocol | None,
    typer.Option(
        help="Protocol of the requests, where --url is not given.", show_default=Protocol.GRPC.value
    ),
]
Timeout = Annotated[
    float, typer.Option(min=0.001, metavar="SECONDS", help="Longest wait for one answer.")
]
InFlight = Annotated[int, typer.Option(min=1, metavar="N", help="Number of requests sent at once.")]


def remember_access(
    ctx: typer.Context,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="POSE_CLIENT_TOKEN", help="Token, sent as `authorization: Bearer TOKEN`."
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="Header of every request; may be repeated."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="POSE_CLIENT_CA_FILE",
            help="PEM file of the authority to trust, for grpcs and https.",
        ),
    ] = None,
    cert_file: Annotated[
        Path | None,
        typer.Option(envvar="POSE_CLIENT_CERT_FILE", help="PEM file of your certificate."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="POSE_CLIENT_KEY_FILE", help="PEM file of your certificate's private key."
        ),
    ] = None,
    shared_memory: Annotated[
        SharedMemory,
        typer.Option(
            help="How images reach the server: `system` is for a Triton on this host that reads"
            " shared memory, which `tools serve` never does."
        ),
    ] = SharedMemory.OFF,
    verbose: Verbose = False,
    version: Version = False,
) -> None:
    tls = Tls(ca_file, cert_file, key_file)
    ctx.meta[_META] = {
        "token": token,
        "headers": dict(map(_name_and_value, header or [])),
        "tls": None if tls == Tls() else tls,
        "shared_memory": shared_memory,
    }


def open_client(
    ctx: typer.Context, url: str | None, protocol: Protocol | None, timeout_s: float
) -> PoseClient:
    """The client for the options; `ctx.obj` replaces `connect` in a test."""
    url = url or DEFAULT_URLS[protocol or Protocol.GRPC]
    try:
        address = Address.parse(url)
    except AddressError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error
    if protocol and address.protocol is not protocol:
        raise typer.BadParameter(
            f"expected a {protocol} URL as --protocol says, got {url}", param_hint="--url"
        )
    access: dict[str, Any] = ctx.meta.get(_META, {})
    return PoseClient(
        url, timeout_s=timeout_s, retries=PATIENT, connect=ctx.obj or connect, **access
    )


def _name_and_value(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter(f"expected NAME:VALUE, got {text!r}", param_hint="--header")
    return name.strip(), value.strip()
