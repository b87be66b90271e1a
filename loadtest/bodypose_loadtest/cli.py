"""The `pose-loadtest` command."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodypose_client.commands.connection import (
    PANEL,
    CaFile,
    CertFile,
    Headers,
    KeyFile,
    Token,
    access_of,
    options_of,
)
from bodypose_client.commands.entry import Version
from bodypose_client.commands.entry import run as run_command
from bodypose_client.commands.shared_options import Command, Group, PlainCommand
from bodypose_client.errors import AddressError
from bodypose_client.files.outputs import new_file, new_folder
from bodypose_client.wire.address import Address, Protocol

from .errors import PlanError
from .scenarios import Load, Scenario, seconds_in
from .slo import Slo

if TYPE_CHECKING:
    from .report import Outcome

FAILED = 3  # the SLO does not hold, or a comparison shows a regression
INVALID = 4  # what was measured is not the server
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Load-test a pose server; numbers that are not the server's are called invalid."
    "\n\nExample: `pose-loadtest run --scenario step --users 1,2,4,8,16`"
    "\n\nExit codes: 0 passed, 1 an error, 2 usage, 3 failed, 4 invalid.",
)

# All of it comes with one extra.
_EXTRA_OF = dict.fromkeys(("cv2", "matplotlib", "psutil"), "loadtest")


Url = Annotated[
    str | None,
    typer.Option(
        help="Server to load, such as grpc://host:8001.",
        show_default="an embedded server of its own",
        envvar="POSE_CLIENT_URL",
        rich_help_panel=PANEL,
    ),
]


@app.callback()
def _options(
    url: Url = None,
    token: Token = None,
    header: Headers = None,
    ca_file: CaFile = None,
    cert_file: CertFile = None,
    key_file: KeyFile = None,
    version: Version = False,
) -> None:
    """The options for reaching a server; `run` reads them."""


Duration = Annotated[
    str, typer.Option(metavar="TIME", help="Time that each step is measured, such as 30s or 5m.")
]
WarmUp = Annotated[
    str, typer.Option(metavar="TIME", help="Time before each step that is not measured.")
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        "-i",
        help="Folder of images to send.",
        exists=True,
        file_okay=False,
        show_default="generated ones",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Random seed of the arrivals and of the choice of images."
    ),
]
Processes = Annotated[int, typer.Option(min=1, metavar="N", help="Number of processes that send.")]
Repository = Annotated[
    Path | None,
    typer.Option(
        help="Folder from `tools build-repo` for the embedded server.",
        show_default="built from the shipped model",
        exists=True,
        file_okay=False,
    ),
]


@app.command(cls=Command)
def run(
    ctx: typer.Context,
    scenario: Annotated[
        Scenario,
        typer.Option(
            metavar="NAME",
            help=f"Course of the load over time: {', '.join(Scenario)}.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the report.", callback=new_folder),
    ] = Path("build/loadtest"),
    protocol: Annotated[
        Protocol, typer.Option(help="Protocol of the requests, where --url is not given.")
    ] = Protocol.GRPC,
    users: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Number of users who ask again once they are answered; step: 1,2,4,8.",
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Requests a second that arrive whatever happens; step: 5,10,20.",
        ),
    ] = None,
    duration: Duration = "30s",
    warm_up: WarmUp = "5s",
    repeats: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of times that each step is measured; their spread is the noise.",
        ),
    ] = 3,
    slo: Annotated[
        str,
        typer.Option(
            metavar="BOUNDS",
            help="Bounds to hold, such as p99=50ms,errors<0.1%; also rate>=20/s.",
            show_default="none",
        ),
    ] = "",
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD", help="Older report to compare with; what is worse than noise fails."
        ),
    ] = None,
    images: Images = None,
    seed: Seed = 0,
    processes: Processes = 1,
    timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Longest wait for an answer.")
    ] = 30.0,
    repository: Repository = None,
) -> None:
    """Load a server, report what it did, and judge it.

    Example: `pose-loadtest run --scenario open --rate 20 --slo "p99=200ms,errors<0.1%"`

    Where is the knee? `pose-loadtest run --scenario step --users 1,2,4,8,16`
    """
    from .comparison import check_same_settings, read_report
    from .plan import LoadTestPlan
    from .run import run_load_test

    url = options_of(ctx).get("url")
    with _usage_errors():
        plan = LoadTestPlan(
            scenario=scenario,
            load=Load.parse(scenario, users, rate),
            duration_s=seconds_in(duration),
            warm_up_s=seconds_in(warm_up),
            repeats=repeats,
            url=url,
            access=access_of(ctx),
            protocol=Address.parse(url).protocol if url else protocol,
            images=images,
            slo=Slo.parse(slo),
            seed=seed,
            processes=processes,
            timeout_s=timeout,
            repository=repository,
        )
    older = read_report(compare) if compare else None
    if older:
        check_same_settings(plan.to_json(), older["settings"])
    _judge(run_load_test(plan, say=typer.echo), output, older)


def _judge(outcome: Outcome, output: Path, older: Mapping[str, Any] | None) -> None:
    """Write and say what came out, and leave with its exit code."""
    from .comparison import compare
    from .report import verdict_words, write_report

    report = outcome.report
    write_report(output, outcome)
    verdict = report["verdict"]
    for problem in (*verdict["invalid"], *verdict["broken"]):
        typer.echo(problem)
    if report["knee"]:
        typer.echo(f"knee: {report['knee']['step']}, {report['knee']['throughput']:.1f} answers/s")
    typer.echo(f"{verdict_words(report)}; report in {output}")
    if verdict["invalid"]:
        raise typer.Exit(INVALID)
    ratios = compare(report, older) if older else []
    for ratio in ratios:
        typer.echo(str(ratio))
    if not verdict["passed"] or any(ratio.regressed for ratio in ratios):
        raise typer.Exit(FAILED)


@app.command(cls=PlainCommand)
def headroom(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the numbers as JSON.", callback=new_file),
    ] = None,
    duration: Duration = "10s",
    images: Images = None,
    repository: Repository = None,
) -> None:
    """Measure how much faster the load generator is than the embedded server.

    Example: `pose-loadtest headroom -o build/headroom.json`

    It must be 3 times as fast; else the exit code is 4.
    """
    from bodypose_client.files.output_file import write_file

    from .headroom import MIN_HEADROOM, measure_headroom
    from .report import as_json

    with _usage_errors():
        seconds = seconds_in(duration)
        if not seconds:
            raise PlanError(f"duration: expected more than 0 s, got {duration}")
    result = measure_headroom(seconds, images, repository)
    if output:
        write_file(output, as_json(result))
    for protocol, rates in result["protocols"].items():
        typer.echo(
            f"{protocol}: generator {rates['instant_server']:.0f}/s, embedded server"
            f" {rates['embedded_server']:.1f}/s, {rates['ratio']:.1f} times"
        )
    if min(rates["ratio"] for rates in result["protocols"].values()) < MIN_HEADROOM:
        raise typer.Exit(INVALID)


@app.command(cls=PlainCommand)
def result(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON file for the result.", callback=new_file)
    ],
    images: Images = None,
    protocol: Annotated[Protocol, typer.Option(help="Protocol of the requests.")] = Protocol.GRPC,
    duration: Duration = "30s",
    warm_up: WarmUp = "5s",
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of times that each step is measured.")
    ] = 3,
    soak: Annotated[
        str, typer.Option(metavar="TIME", help="Time of the soak at half the knee.")
    ] = "30m",
    page: Annotated[
        Path | None,
        typer.Option(
            help="Markdown page whose table gets the result.",
            exists=True,
            dir_okay=False,
            callback=new_file,
        ),
    ] = None,
    reports: Annotated[
        Path, typer.Option(help="Folder for the reports of all parts.", callback=new_folder)
    ] = Path("build/loadtest-result"),
    repository: Repository = None,
    seed: Seed = 0,
) -> None:
    """Measure knee, latency, overload and a soak of the embedded server: about 50 minutes.

    Example: `pose-loadtest result -o docs/results/loadtest.json --images photos --soak 30m`
    """
    from . import result as published
    from .plan import LoadTestPlan

    with _usage_errors():
        plan = LoadTestPlan(
            scenario=Scenario.STEP,
            load=Load.parse(Scenario.STEP, None, None),
            duration_s=seconds_in(duration),
            warm_up_s=seconds_in(warm_up),
            repeats=repeats,
            protocol=protocol,
            images=images,
            seed=seed,
            repository=repository,
        )
        soak_s = seconds_in(soak)
        if not soak_s:
            raise PlanError(f"soak: expected more than 0 s, got {soak}")
    measured = published.Measurement(plan, soak_s, reports).measure(say=typer.echo)
    published.write_result(output, page, measured)
    typer.echo(published.result_table(measured))


@contextlib.contextmanager
def _usage_errors() -> Iterator[None]:
    """Inside, options that do not fit are usage errors."""
    try:
        yield
    except (PlanError, AddressError) as error:
        raise typer.BadParameter(str(error)) from error


def _interrupt(_number: int, _frame: object) -> None:
    """The first signal ends the run in order, its server too; more do not cut that short."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: an error that the user can fix is one line on stderr and exit code 1."""
    for number in _STOP_SIGNALS:
        signal.signal(number, _interrupt)
    run_command(app, _EXTRA_OF)


if __name__ == "__main__":
    main()
