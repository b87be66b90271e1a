"""Workers as processes of this machine, without Ray."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from typing import Final

from .jobs import Job, Server
from .settings import BulkError
from .sources import Part
from .worker import Done, Worker

_MOST_KILLS: Final = 3  # with no finished part between them

_worker: Worker | None = None  # of this process, if it is one of the pool


def in_processes(
    job: Job, parts: Iterable[Part], workers: int | None = None
) -> Generator[Done, None, None]:
    """Process parts, `workers` at a time; answers come as they are done.

    Without `workers` as many as fit the cores, or one where the network is on a GPU or a server.

    When a worker is killed, or crashes, all are started again, with the parts they were at.
    Closing the iterator, an error in it, or the end of this process ends the workers at once.

    Raises:
        BulkError: they were killed again before any part was finished.
    """
    workers = workers or _workers_for(job)
    left = deque(parts)
    kills = 0
    while kills < _MOST_KILLS:
        under_way: dict[Future[Done], Part] = {}
        try:
            with _pool(job, workers) as pool:
                while left or under_way:
                    while left and len(under_way) < workers:
                        under_way[pool.submit(_do, left[0])] = left[0]
                        left.popleft()
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        done = future.result()
                        del under_way[future]
                        kills = 0
                        yield done
            return
        except BrokenProcessPool:
            kills += 1
            left.extendleft(under_way.values())
    raise BulkError(
        f"the workers: expected a finished part, got killed {_MOST_KILLS} times (out of memory?);"
        " run the same command again with fewer --workers, finished parts are kept"
    )


@contextmanager
def _pool(job: Job, workers: int) -> Iterator[ProcessPoolExecutor]:
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a fork of OpenVINO's threads would hang
    pool = ProcessPoolExecutor(workers, context, _open, (job,))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()


def _workers_for(job: Job) -> int:
    if job.by.on_gpu or isinstance(job.by, Server):
        return 1
    return max(1, len(os.sched_getaffinity(0)) // job.by.threads)


def _open(job: Job) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = Worker(job)


def _do(part: Part) -> Done:
    assert _worker is not None
    return _worker(part)


def _end_with_parent() -> None:
    """A killed parent leaves its workers waiting for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)
