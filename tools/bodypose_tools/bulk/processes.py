"""Workers as processes of this machine, without Ray."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for

from .jobs import Job, Server
from .settings import BulkError
from .sources import Part
from .worker import Done, Worker

_worker: Worker | None = None  # of this process, if it is one of the pool


def in_processes(
    job: Job, parts: Iterable[Part], workers: int | None = None
) -> Generator[Done, None, None]:
    """Process parts, `workers` at a time; answers come as they are done.

    Without `workers` as many as fit the cores, or one where the network is on a GPU or a server.

    Closing the iterator, an error in it, or the end of this process ends the workers at once.

    Raises:
        BulkError: a worker was killed, or crashed.
    """
    workers = workers or _workers_for(job)
    others = set(multiprocessing.active_children())
    left = iter(parts)
    context = multiprocessing.get_context("spawn")  # a fork of OpenVINO's threads would hang
    pool = ProcessPoolExecutor(workers, context, _open, (job,))
    try:
        running = {pool.submit(_do, part) for part in islice(left, workers)}
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_do, part) for part in islice(left, len(finished))}
            for future in finished:
                yield future.result()
    except BrokenProcessPool as error:
        raise BulkError(
            "a worker: expected it to finish its part, got a killed process (out of memory?); run"
            " the same command again, finished parts are kept"
        ) from error
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
