"""Owns the options that say how to reach a server, which every command shares."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bodypose_client.errors import AddressError
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.access import Tls
from bodypose_client.wire.address import DEFAULT_MODEL, DEFAULT_URLS, Address, Protocol
from bodypose_client.wire.connect import connect
from bodypose_client.wire.retries import PATIENT
from bodypose_client.wire.shared_memory import SharedMemory

from .entry import Version

_META = "bodypose_client.wire.access"

Url = Annotated[
    str | None,
    typer.Option(
        help=f"Server and model, such as {DEFAULT_URLS[Protocol.GRPC]}/{DEFAULT_MODEL};"
        " grpcs:// and https:// are encrypted.",
        show_default=f"{DEFAULT_URLS[Protocol.GRPC]}, or {DEFAULT_URLS[Protocol.HTTP]}",
    ),
]
ProtocolOption = Annotated[
    Protocol | None,
    typer.Option(
        help="How requests travel, when --url does not say.", show_default=Protocol.GRPC.value
    ),
]
Timeout = Annotated[float, typer.Option(min=0.001, help="Longest wait for one answer, in seconds.")]
InFlight = Annotated[int, typer.Option(min=1, help="Requests sent at once.")]


def remember_access(
    ctx: typer.Context,
    token: Annotated[
        str | None,
        typer.Option(envvar="POSE_CLIENT_TOKEN", help="Sent as `authorization: Bearer TOKEN`."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="Sent with every request; may be repeated."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(envvar="POSE_CLIENT_CA_FILE", help="PEM: whom to trust, for grpcs, https."),
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(envvar="POSE_CLIENT_CERT_FILE", help="PEM: your certificate.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(envvar="POSE_CLIENT_KEY_FILE", help="PEM: its private key.")
    ] = None,
    shared_memory: Annotated[
        SharedMemory,
        typer.Option(
            help="`system`: a Triton on this host that allows it reads images from shared"
            " memory; `tools serve` does not."
        ),
    ] = SharedMemory.OFF,
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
    """The client for the options; `ctx.obj` is the way to the server, when a test gives one."""
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
