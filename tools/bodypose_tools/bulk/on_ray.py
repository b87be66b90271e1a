"""Workers as actors of Ray Data, on this machine or a cluster.

A part is one row of the data set, and its answer one row of the result. Ray starts a killed actor
again and gives it the same part again; that the part is written once is the part file's doing.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from bodypose_tools.library_messages import known_lines_left_out
from pose_runtime.errors import first_line

from .jobs import Job, Server
from .settings import BulkError
from .sources import Part
from .worker import Done, Worker

Row = Mapping[str, Any]

# Only parts' places and counts travel; Ray's least is 75 MiB.
_OBJECT_STORE_BYTES: Final = 128 * 2**20
_STARTS: Final = 3  # a busy machine may not start it within Ray's 30 s
_PATIENCE_S: Final = 10.0
HERE: Final = "local"  # Ray starts one, whatever RAY_ADDRESS names


def on_ray(
    job: Job, parts: Iterable[Part], workers: int | None = None, address: str = HERE
) -> Generator[Done, None, None]:
    """Process parts in actors; answers come as they are done.

    Without `workers` there are as many as the cluster has CPUs or GPUs for, or one that asks a
    server. Closing the iterator, or the end of this process, ends the actors.

    Args:
        job: for the workers.
        parts: those to process.
        workers: number of actors.
        address: of a cluster; `HERE`: a Ray for this run alone, whose ports want Ray's own token.

    Raises:
        BulkError: no such cluster, or it has no GPU for a network on one.
    """
    rows = [{"part": pickle.dumps(part)} for part in parts]
    if not rows:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send them
    if address == HERE:  # nobody scrapes them, and gathering them takes 2.6 % of a core (2.60)
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
    # Ray's C++ code warns on stderr about every set of actors with arguments (Ray issue 53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    _refuse_absent(address)
    with _connected(job, workers, address):
        count = workers or workers_for(job, ray.cluster_resources())
        _quiet(ray.data)
        answers = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(job,),
            batch_size=1,
            batch_format="numpy",
            zero_copy_batch=False,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(rows))),
            num_cpus=job.by.threads,
            num_gpus=1 if job.by.on_gpu else 0,
        )
        for row in answers.iter_rows():
            yield pickle.loads(row["done"])


class _Actor:
    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)

    def __call__(self, batch: Row) -> Row:
        done = [self._worker(pickle.loads(part)) for part in batch["part"]]
        return {"done": [pickle.dumps(each) for each in done]}


@contextmanager
def _connected(job: Job, workers: int | None, address: str) -> Iterator[None]:
    import ray

    settings: dict[str, Any] = {}
    if address == HERE:
        cores = len(os.sched_getaffinity(0))
        settings = {
            # More actors than cores, when a person asks for them, would wait for ever.
            "num_cpus": max(cores, (workers or 1) * job.by.threads),
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    tries = _STARTS if address == HERE else 1
    for number in range(1, tries + 1):
        try:
            with known_lines_left_out():
                ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **settings)
            break
        except Exception as error:  # Ray raises nothing more special when a start takes too long
            ray.shutdown()
            if number == tries:
                raise BulkError(
                    f"{address}: expected a Ray cluster, got {first_line(error)!r}; one"
                    " with a token wants RAY_AUTH_MODE=token and ~/.ray/auth_token"
                ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_absent(address: str) -> None:
    """At once: Ray itself would try for two minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "://" in address:  # such as auto
        return
    try:
        socket.create_connection((host, int(port)), _PATIENCE_S).close()
    except (OSError, OverflowError) as error:
        raise BulkError(f"{address}: expected a Ray cluster, got {str(error)!r}") from error


def workers_for(job: Job, resources: Mapping[str, float]) -> int:
    """Number of workers that a cluster has room for.

    Args:
        job: for the workers.
        resources: `CPU` and `GPU` of the cluster.

    Raises:
        BulkError: not a single one.
    """
    if isinstance(job.by, Server):
        return 1
    kind, each = ("GPU", 1) if job.by.on_gpu else ("CPU", job.by.threads)
    count = int(resources.get(kind, 0)) // each
    if count < 1:
        raise BulkError(
            f"{job.runtime}: expected {each} {kind} for a worker, got {resources.get(kind, 0):g}"
        )
    return count


def _quiet(data: Any) -> None:
    """Our own progress is shown; Ray's words would stand among it."""
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
