"""The command `tools bulk`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import new_folder
from bodypose_tools.runtimes.settings import GraphRuntime

from .settings import GPU_BATCH, GPU_THREADS, IN_FLIGHT, PART_SIZE


def bulk(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SRC",
            help="Folders, lists (.txt, .lst: a path a line; .json), Parquet files of bytes or"
            " paths, WebDataset shards (.tar).",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder for the Parquet files.", callback=new_folder),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "-m",
            "--model",
            help="A .onnx, .plan or .keras file.",
            show_default="the shipped model",
            dir_okay=False,
        ),
    ] = None,
    runtime: Annotated[
        GraphRuntime, typer.Option(help="Runtime of an .onnx file.")
    ] = GraphRuntime.OPENVINO,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask this server, such as grpc://host:8001, in place of a network of our own.",
        ),
    ] = None,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Requests at once of a worker that asks a server.")
    ] = IN_FLIGHT,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.001,
            metavar="SECONDS",
            help="Longest wait for one answer of a server, tries of a full or absent one included.",
        ),
    ] = 600.0,
    token: Annotated[
        str | None,
        typer.Option(envvar="POSE_CLIENT_TOKEN", help="Token for the server."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="POSE_CLIENT_CA_FILE", help="PEM file of the authority to trust, for grpcs."
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Ray cluster, such as auto or 10.0.0.1:6379; local starts one for this run.",
            show_default="processes of this machine, without Ray",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Work on every Nth part from number I on (0 to N - 1).",
            show_default="0/1: all",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of workers.",
            show_default="as many as fit the cores or GPUs; 1 with --server",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="CPU threads of each worker: the network's, or those that decode for a GPU.",
            show_default=f"1, or {GPU_THREADS} with a GPU",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images that the network gets at once.",
            show_default=f"1 on CPUs, {GPU_BATCH} on GPUs",
        ),
    ] = None,
    part_size: Annotated[
        int,
        typer.Option(
            "--part-size", min=1, help="Images of a part, which becomes one Parquet file."
        ),
    ] = PART_SIZE,
    column: Annotated[
        str | None,
        typer.Option(
            help="Parquet column with the images.", show_default="image, bytes, path, ..."
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            min=0,
            max=1,
            help="Lowest score of a person that is written.",
            show_default="0.25",
        ),
    ] = None,
) -> None:
    """Find the people in millions of images: Parquet files of poses, resumed after any failure.

    Example: `tools bulk photos/ -o poses`

    Example: `tools bulk shards/*.tar -o poses --shard 3/16`

    Example: `tools bulk list.txt -o poses --address 10.0.0.1:6379`

    Example: `tools bulk list.txt -o poses --server grpc://10.0.0.1:8001,10.0.0.2:8001`

    A bad image is a row with an error. The same command again finishes what is missing.
    """
    from functools import partial

    from bodypose_client.formats import DISPLAY_MIN_SCORE
    from bodypose_tools.files.shipped import SHIPPED_MODEL
    from pose_runtime.extras import require

    require("pyarrow", *(["ray"] if address else []))

    from .jobs import Server, network_job, server_job
    from .on_ray import on_ray
    from .processes import in_processes
    from .run import RECORD, run_bulk
    from .settings import Shard

    if server and model:
        raise typer.BadParameter("expected --model or --server, got both")
    if shard and address:
        raise typer.BadParameter("expected --shard or --address, got both")
    share = Shard.parse(shard or "0/1")
    lowest = DISPLAY_MIN_SCORE if min_score is None else min_score
    if server:
        job = server_job(Server(server, in_flight, timeout, token, ca_file), output, lowest)
    else:
        job = network_job(model or SHIPPED_MODEL, runtime, output, lowest, threads, batch)
    start = partial(in_processes, workers=workers)
    if address:
        start = partial(on_ray, workers=workers, address=address)
    counts = run_bulk(
        sources,
        job,
        start,
        part_size=part_size,
        column=column,
        shard=share,
        say=lambda line: typer.echo(line, err=True),
    )
    if counts is None:
        typer.echo(f"{output}: shard {shard} is finished, others are not")
        return
    typer.echo(
        f"{output / RECORD}  {counts.images} images, {counts.people} people, {counts.errors} errors"
    )
