"""`pose-client describe`: who serves, which model, which skeleton, and what it has done so far."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_client.pose_client import PoseClient
from bodypose_client.session import DEFAULT_TIMEOUT_S
from bodypose_client.wire.connection import ServerInfo
from pose_runtime.poses import FOUND_JOINT_SCORE

from .connection import Timeout, open_client
from .shared_options import Command

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "bodypose-server/1"
_WIDTH = 120  # where there is no terminal to ask


def add_commands(app: typer.Typer) -> None:
    """Add the command `describe` to `pose-client`."""
    app.command(cls=Command)(describe)


def describe(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
) -> None:
    """Describe the server: its name, its model, the skeleton, and what it has done so far.

    Example: `pose-client describe --url grpc://127.0.0.1:8001`
    """
    with open_client(ctx, timeout) as client:
        server = client.inspect()
    if as_json:
        typer.echo(json.dumps(_record(client, server), indent=2))
        return
    from rich.console import Console

    console = Console() if Console().is_terminal else Console(width=_WIDTH)
    console.print(_facts(client, server), _skeleton(client), _statistics(server))


def _record(client: PoseClient, server: ServerInfo) -> dict[str, Any]:
    spec = client.spec
    return {
        "schema": SCHEMA,
        "url": str(client.address),
        "server": {"name": server.name, "version": server.version},
        "model": asdict(client.model),
        "network_hw": spec.network_hw,
        "max_people": spec.max_people,
        "limits": asdict(spec.limits),
        "thresholds": asdict(spec.grouping),
        "skeleton": spec.skeleton.to_json(),
        "statistics": [asdict(model) for model in server.models],
    }


def _facts(client: PoseClient, server: ServerInfo) -> Table:
    spec = client.spec
    table = _table("server")
    rows = {
        "url": str(client.address),
        "server": f"{server.name} {server.version}".strip() or "does not say",
        "model": f"{client.model.name}, version {client.model.version}",
        "network": f"sha256 {client.model.sha256[:16] or 'unknown'}",
        "input": f"{spec.network_hw[1]} x {spec.network_hw[0]} pixels inside; images of up to"
        f" {spec.limits.max_pixels / 1e6:g} megapixels, {spec.limits.max_bytes / 2**20:g} MiB",
        "people": f"up to {spec.max_people} an image, with {spec.grouping.min_joints} joints or"
        f" more of score {spec.grouping.min_peak_score:g}, joined by limbs of"
        f" {spec.grouping.min_limb_score:g}",
        "shown": f"people from score {DISPLAY_MIN_SCORE:g} on; a joint is found from"
        f" {FOUND_JOINT_SCORE:g} on",
    }
    table.show_header = False
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _skeleton(client: PoseClient) -> Table:
    skeleton = client.skeleton
    table = _table(
        f"skeleton {skeleton.name}: {skeleton.num_joints} joints, {skeleton.num_limbs} limbs"
    )
    for heading in ("", "joint", "limbs to", "mirrored", "sigma"):
        table.add_column(heading, justify="right" if heading in ("", "sigma") else "left")
    for joint, name in enumerate(skeleton.joints):
        ends = [b for a, b in skeleton.limbs if a == joint]
        mirrored = skeleton.mirror[joint]
        table.add_row(
            str(joint),
            name,
            ", ".join(skeleton.joints[end] for end in ends),
            "" if mirrored == joint else skeleton.joints[mirrored],
            f"{skeleton.sigmas[joint]:.3f}",
        )
    return table


def _statistics(server: ServerInfo) -> Table:
    table = _table("since the server started (means, each model's warm-up in them)")
    headings = (
        "model",
        "version",
        "requests",
        "failed",
        "images",
        "a batch",
        "queue ms",
        "compute ms",
        "request ms",
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for model in server.models:
        table.add_row(
            model.name,
            model.version,
            str(model.requests),
            str(model.failures),
            str(model.images),
            f"{model.images / model.executions:.2f}" if model.executions else "-",
            *(
                f"{ms:.2f}" if model.requests else "-"
                for ms in (model.queue_ms, model.compute_ms, model.request_ms)
            ),
        )
    if not server.models:
        table.add_row("this server keeps no statistics", *[""] * (len(headings) - 1))
    return table


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
