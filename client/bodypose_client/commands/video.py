"""`pose-client video`: a file or camera in, annotated MP4 and JSON lines out."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from bodypose_client.errors import FileError
from bodypose_client.files.outputs import new_file
from bodypose_client.formats import DISPLAY_MIN_SCORE
from bodypose_client.pose_client import PoseClient
from bodypose_client.session import DEFAULT_IN_FLIGHT, DEFAULT_TIMEOUT_S
from pose_runtime.extras import require

from .connection import InFlight, Timeout, open_client
from .entry import complain
from .interrupt import Stop, stop_on_interrupt
from .shared_options import Command

if TYPE_CHECKING:  # PyAV and OpenCV load when a video is opened
    from bodypose_client.video.files import Source
    from bodypose_client.video.people import FramePeople

_INTERRUPTED = 130  # what a shell gives for Ctrl-C
_STDOUT = Path("-")


def add_commands(app: typer.Typer) -> None:
    """Add the command `video` to `pose-client`."""
    app.command(cls=Command)(video)


def video(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Video file, or the number of a camera.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.mp4",
            help="Draw the people into this video.",
            callback=new_file,
        ),
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.jsonl",
            help="Write one JSON object for each frame; - is stdout.",
            callback=new_file,
        ),
    ] = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="Smooth the joints over time.")] = False,
    track: Annotated[
        bool, typer.Option("--track", help="Give each person an id that stays.")
    ] = False,
    min_score: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SCORE", help="Leave out people below this score."),
    ] = DISPLAY_MIN_SCORE,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    in_flight: InFlight = DEFAULT_IN_FLIGHT,
) -> None:
    """Find the people in a video or in front of a camera.

    Example: `pose-client video walk.mp4 -o out.mp4 --jsonl out.jsonl --track --smooth`

    Ctrl-C ends it and keeps what is done; it is the way to end a camera. Sound is left out. A frame
    whose answer is late is written without people; the exit code is then 1.
    """
    require("av", "cv2")
    from bodypose_client.video.files import open_source

    _check_outputs(output, jsonl)
    with (
        open_source(source) as opened,
        open_client(ctx, timeout) as client,
        stop_on_interrupt() as stop,
        _report_of(opened, output, jsonl) as report,
        _writers(opened, client, output, jsonl) as writers,
    ):
        steps = _steps(client, min_score, smooth=smooth, track=track)
        _work(opened, client, in_flight, [*steps, *writers, report.count], stop)
    if stop.asked and opened.total is not None:
        raise typer.Exit(_INTERRUPTED)
    if report.late:
        complain(
            f"{report.late} frames had no answer within {timeout:g} s and are without people; give"
            " them more time (--timeout) or send fewer at once (--in-flight)"
        )
        raise typer.Exit(1)


Worker = Callable[["FramePeople"], "FramePeople"]


def _work(
    source: Source, client: PoseClient, in_flight: int, workers: list[Worker], stop: Stop
) -> None:
    """Each frame with its people goes through all workers, in order, until the end or Ctrl-C."""
    from bodypose_client.progress import progress
    from bodypose_client.video.people import find_in_frames

    with (
        progress(source.total, "frames") as tick,
        contextlib.closing(find_in_frames(client, source.frames, in_flight)) as answers,
    ):
        for answer in answers:
            people = answer
            for worker in workers:
                people = worker(people)
            tick()
            if stop.asked:
                return


def _steps(client: PoseClient, min_score: float, *, smooth: bool, track: bool) -> list[Worker]:
    from bodypose_client.video.people import above, steadied, with_ids, without_ids
    from bodypose_client.video.smoothing import Smoother
    from bodypose_client.video.tracking import Matching, Tracker

    steps = []
    if track or smooth:
        matching = Matching(min_score=min_score)
        steps.append(with_ids(Tracker(client.skeleton.sigmas, matching)))
    if smooth:
        steps.append(steadied(Smoother()))
    steps.append(above(min_score))
    if not track:
        steps.append(without_ids)
    return steps


@contextlib.contextmanager
def _writers(
    source: Source, client: PoseClient, output: Path | None, jsonl: Path | None
) -> Iterator[list[Worker]]:
    """Workers that write; their files are closed properly however the block ends."""
    from bodypose_client.video.files import open_video
    from bodypose_client.video.people import drawn, frame_record

    with contextlib.ExitStack() as files:
        writers: list[Worker] = []
        if jsonl:
            lines = files.enter_context(_open_lines(jsonl))

            def write_line(people: FramePeople) -> FramePeople:
                record = frame_record(people, source.name, client.model)
                print(json.dumps(record), file=lines, flush=True)
                return people

            writers.append(write_line)
        if output:
            video = files.enter_context(open_video(output, source.rate))

            def write_frame(people: FramePeople) -> FramePeople:
                video.write(drawn(people, client.skeleton), people.frame.time_s)
                return people

            writers.append(write_frame)
        yield writers


@contextlib.contextmanager
def _open_lines(path: Path) -> Iterator[TextIO]:
    if path == _STDOUT:
        yield sys.stdout
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise FileError(path, "a place to write to", error) from error
    with file:
        yield file


def _check_outputs(output: Path | None, jsonl: Path | None) -> None:
    from bodypose_client.video.files import SUFFIXES

    if not output and not jsonl:
        raise typer.BadParameter("expected --output, --jsonl or both, got neither")
    if output and output.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(
            f"expected a name that ends in {', '.join(SUFFIXES)}, got {output}",
            param_hint="--output",
        )


@dataclass(slots=True)
class _Report:
    frames: int = 0
    people: int = 0
    late: int = 0

    def count(self, people: FramePeople) -> FramePeople:
        self.frames += 1
        self.people += len(people.poses)
        self.late += people.late is not None
        return people


@contextlib.contextmanager
def _report_of(source: Source, output: Path | None, jsonl: Path | None) -> Iterator[_Report]:
    """A count of frames and people, printed with the output's place when the block ends."""
    report, started = _Report(), time.monotonic()
    try:
        yield report
    finally:
        fps = report.frames / max(time.monotonic() - started, 1e-9)
        places = [str(path) for path in (output, jsonl) if path and path != _STDOUT]
        kept = f"; {', '.join(places)}" if places and report.frames else ""
        typer.echo(
            f"{source.name}: {report.frames} frames with {report.people} people,"
            f" {fps:.1f} fps{kept}",
            err=jsonl == _STDOUT,
        )
