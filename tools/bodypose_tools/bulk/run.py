"""A bulk run: parts that are not finished are handed to workers, and the whole is recorded."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bodypose_client.progress import progress
from bodypose_tools.files.json_records import write_record
from pose_runtime.extras import require

from .jobs import Job
from .part_files import SCHEMA, Counts, part_path, read_counts
from .settings import BulkError, Shard
from .sources import Part, parts_of
from .worker import Done

RECORD: Final = "_bulk.json"  # readers of Parquet folders skip the underscore
_LEFT_BEHIND_S: Final = 3600.0  # no part takes that long to write

Start = Callable[[Job, Iterable[Part]], Generator[Done, None, None]]


def run_bulk(
    sources: Sequence[Path],
    job: Job,
    start: Start,
    *,
    part_size: int,
    column: str | None,
    shard: Shard,
    say: Callable[[str], None],
) -> Counts | None:
    """Process what no earlier run has finished, into part files in `job.folder`.

    Args:
        sources: as in `parts_of`.
        job: for the workers.
        start: hands parts to workers, such as `in_processes`.
        part_size: number of images of a part.
        column: as in `parts_of`.
        shard: which parts are this run's.
        say: gets a line about what is found, and what was done before.

    Returns:
        Counts of the whole input when every part of it is finished; None while other shards have
        work left.

    Raises:
        BulkError: the folder has parts of another run, or the work cannot go on.
        DiskError: there is no room; finished parts stay.
    """
    require("pyarrow")
    _remove_left_behind(job.folder)
    parts = parts_of(sources, job.folder, part_size, column)
    _refuse_others(job.folder, len(parts))
    ours = parts[shard.index :: shard.count]
    left = [part for part in ours if not _is_finished(job, part)]
    images = sum(part.count for part in left)
    say(f"{images} images in {len(left)} of {len(ours)} parts; the others are finished")
    with (
        progress(images, "images") as tick,
        contextlib.closing(start(job, left)) as dones,
    ):
        for done in dones:
            if done.failure is not None:
                raise BulkError(done.failure)
            tick(done.counts.images)
    return _recorded(job, parts)


def _is_finished(job: Job, part: Part) -> bool:
    path = part_path(job.folder, part.number)
    return path.exists() and read_counts(path, job.origin(part)).images == part.count


def _recorded(job: Job, parts: Sequence[Part]) -> Counts | None:
    """The record of the whole run, written by whichever shard ends last."""
    if not all(part_path(job.folder, part.number).exists() for part in parts):
        return None
    counts = sum(
        (read_counts(part_path(job.folder, part.number), job.origin(part)) for part in parts),
        Counts(),
    )
    model = {"name": job.model, "sha256": job.model_sha256, "runtime": job.runtime}
    record = {
        "schema": SCHEMA,
        "model": model,
        "min_score": job.min_score,
        "parts": len(parts),
        **asdict(counts),
    }
    write_record(job.folder / RECORD, record)
    return counts


def _refuse_others(folder: Path, count: int) -> None:
    ours = {part_path(folder, number).name for number in range(count)}
    others = sorted(path.name for path in folder.glob("part-*.parquet") if path.name not in ours)
    if others:
        raise BulkError(
            f"{folder / others[0]}: expected at most {count} parts, got this one of another run;"
            " choose another output folder, or remove this one"
        )


def _remove_left_behind(folder: Path) -> None:
    """Half-written files of a killed worker; a younger one may be another shard's."""
    for path in folder.glob(".*.parquet"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:
                path.unlink()
