"""Workers as actors of Ray Data, on this machine or a cluster.

A part is one row of the data set, and its answer one row of the result. Ray starts a killed actor
again and gives it the same part again; that the part is written once is the part file's doing.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from .jobs import Job, Server
from .settings import BulkError
from .sources import Part
from .worker import Done, Worker

Row = Mapping[str, Any]

# Only parts' places and counts travel; Ray's least is 75 MiB.
_OBJECT_STORE_BYTES: Final = 128 * 2**20
_HERE: Final = "local"  # for Ray: start one, whatever RAY_ADDRESS names


def on_ray(
    job: Job, parts: Iterable[Part], workers: int | None = None, address: str | None = None
) -> Generator[Done, None, None]:
    """Process parts in actors; answers come as they are done.

    Without `workers` there are as many as the cluster has CPUs or GPUs for, or one that asks a
    server. Closing the iterator, or the end of this process, ends the actors.

    Args:
        job: for the workers.
        parts: those to process.
        workers: number of actors.
        address: of a cluster; None: a Ray for this run alone, which listens on loopback.

    Raises:
        BulkError: no such cluster, or it has no GPU for a network on one.
    """
    rows = [{"part": pickle.dumps(part)} for part in parts]
    if not rows:
        return
    import ray
    import ray.data

    with _connected(job, workers, address):
        count = workers or _workers_for(job, ray.cluster_resources())
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
def _connected(job: Job, workers: int | None, address: str | None) -> Iterator[None]:
    import ray

    settings: dict[str, Any] = {}
    if address is None:
        cores = len(os.sched_getaffinity(0))
        settings = {
            # More actors than cores, when a person asks for them, would wait for ever.
            "num_cpus": max(cores, (workers or 1) * job.by.threads),
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send them
    # Ray's C++ code warns on stderr about every set of actors with arguments (Ray issue 53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray.init(address or _HERE, logging_level=logging.ERROR, log_to_driver=False, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise BulkError(f"{address or 'Ray'}: expected a Ray cluster, got {first!r}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _workers_for(job: Job, resources: Mapping[str, float]) -> int:
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
