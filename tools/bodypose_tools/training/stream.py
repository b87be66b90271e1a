"""The supply of training batches: worker processes fill shared memory with samples.

Which batch holds what depends only on the seed, the epoch and the step, never on the number of
workers or their speed.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import shared_memory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bodypose_tools.data.coco import DatasetError, ImageRecord

from .image_cache import ImageCache
from .samples import Pixels, SampleSettings, Targets, make_sample, read_image

Layout = list[tuple[tuple[int, ...], np.dtype[Any]]]

_PATIENCE_S = 5.0  # without a batch, after which the workers' exit codes are checked


@dataclass(frozen=True, slots=True)
class Share:
    """The rows of a batch that one of several processes feeds: part `number` of `of`, from 0 on."""

    number: int = 0
    of: int = 1


WHOLE = Share()


class SampleStream:
    """Endless supply of training batches, in an order fixed by the seed.

    `batches` yields pixels (B, H, W, 3) uint8 and `Targets`, whose fields are float16: half the
    memory and copying of float32 at a precision of 0.001. Use as a context manager: it owns
    processes and shared memory. Images stay on disk but for `cache_mib` of them; workers hold the
    batches that they fill, so that their memory does not grow with the data set.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        settings: SampleSettings,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        cache_mib: int = 0,
        share: Share = WHOLE,
    ) -> None:
        """Nothing is started yet.

        Args:
            records: to train on.
            settings: of the samples.
            batch_size: of all processes together.
            seed: of order and augmentation.
            workers: processes that fill batches.
            cache_mib: of decoded images.
            share: of each batch that this stream yields.
        """
        if len(records) < batch_size:
            raise DatasetError(
                f"training images: expected at least one batch of {batch_size}, got {len(records)}"
            )
        self.records = list(records)
        self._settings = settings
        self._batch_size = batch_size
        own = batch_size // share.of
        self._rows = range(share.number * own, (share.number + 1) * own)
        self._seed = seed
        self._workers = workers
        self.steps_per_epoch = len(records) // batch_size
        self._slots = 2 * workers + 2
        self._layout = _layout(self._slots, own, settings)
        self._cache = ImageCache([record.image_hw for record in records], cache_mib)

    def __enter__(self) -> SampleStream:
        self._cache.create()
        size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self._layout)
        self._memory = shared_memory.SharedMemory(create=True, size=size)
        self._arrays = _arrays_in(self._memory, self._layout)
        context = multiprocessing.get_context("spawn")
        self._tasks: Any = context.Queue()
        self._done: Any = context.Queue()
        self._processes = [
            context.Process(
                target=_work,
                args=(
                    self._memory.name,
                    self._layout,
                    self._settings,
                    self._cache,
                    self._seed,
                    self._tasks,
                    self._done,
                ),
                daemon=True,
            )
            for _ in range(self._workers)
        ]
        for process in self._processes:
            process.start()
        self._ahead = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.put(None)  # should the thread wait for a batch
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._ahead.shutdown()
        self._tasks.cancel_join_thread()
        self._done.cancel_join_thread()
        del self._arrays
        self._memory.close()
        self._memory.unlink()
        self._cache.close()

    def batches(self, first_epoch: int = 0) -> Iterator[tuple[Pixels, Targets]]:
        """Batches from the first step of `first_epoch` on, for ever.

        The next one is copied out of shared memory while the caller is busy with the last.

        Raises:
            DatasetError: an image of the batch cannot be read; the message names it.
        """
        copies = self._copies(first_epoch)
        coming = self._ahead.submit(next, copies)
        while True:
            batch = coming.result()
            coming = self._ahead.submit(next, copies)
            yield batch

    def _copies(self, first_epoch: int) -> Iterator[tuple[Pixels, Targets]]:
        wanted = first_epoch * self.steps_per_epoch
        for slot in range(self._slots):
            self._ask(wanted + slot, slot)
        ready: dict[int, int] = {}
        while True:
            while wanted not in ready:
                number, slot, error = self._next_done()
                if error is not None:
                    raise DatasetError(error)
                ready[number] = slot
            slot = ready.pop(wanted)
            pixels, *targets = (array[slot].copy() for array in self._arrays)
            self._ask(wanted + self._slots, slot)
            wanted += 1
            yield pixels, Targets(*targets)

    def _next_done(self) -> Any:
        while True:
            try:
                done = self._done.get(timeout=_PATIENCE_S)
                if done is None:
                    raise DatasetError("workers: expected a batch, got the end of the stream")
                return done
            except queue.Empty:
                codes = [process.exitcode for process in self._processes]
                if any(code is not None for code in codes):
                    raise DatasetError(
                        f"workers: expected all to run, got exit codes {codes}; with -9 the machine"
                        " has too little memory, with -7 too little shared memory (a container's"
                        " --shm-size): lower workers or batch_size"
                    ) from None

    def image_ids(self, epoch: int, step: int) -> list[int]:
        """The images of a batch; epoch and step count from 0."""
        return [self.records[index].image_id for index in self._chosen(epoch, step)]

    def _chosen(self, epoch: int, step: int) -> list[int]:
        """B indices of records."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self.records))
        return list(map(int, order[step * self._batch_size : (step + 1) * self._batch_size]))

    def _ask(self, number: int, slot: int) -> None:
        chosen = self._chosen(*divmod(number, self.steps_per_epoch))
        rows = [(row, chosen[row], self.records[chosen[row]]) for row in self._rows]
        self._tasks.put((number, slot, rows))


def _work(
    memory_name: str,
    layout: Layout,
    settings: SampleSettings,
    cache: ImageCache,
    seed: int,
    tasks: Any,
    done: Any,
) -> None:
    """A worker process: fills the slots it is told to fill, until it or its parent is ended."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    cache.attach()
    memory = shared_memory.SharedMemory(name=memory_name)
    pixels, *targets = _arrays_in(memory, layout)
    while True:
        number, slot, rows = tasks.get()
        error = None
        for place, (row, index, record) in enumerate(rows):
            rng = np.random.default_rng([seed, number, row])
            try:
                pixels[slot, place], made = make_sample(
                    record, settings, rng, _cached(cache, index)
                )
                for target, values in zip(targets, made, strict=True):
                    target[slot, place] = halved(values) if target.dtype == np.float16 else values
            except DatasetError as problem:
                error = str(problem)
        done.put((number, slot, error))


def halved(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Values (h, w, C) as float16, rounded to the nearest, in OpenCV: ten times as fast as numpy.

    Only `normalize` does so in both OpenCV 4.11 and 5; here its factor is exactly 1.
    """
    rows = np.ascontiguousarray(values).reshape(len(values), -1)
    largest = cv2.norm(rows, cv2.NORM_INF)
    made = cv2.normalize(rows, None, largest, 0, cv2.NORM_INF, cv2.CV_16F)
    return np.asarray(made, np.float16).reshape(values.shape)


def _cached(cache: ImageCache, index: int) -> Callable[[ImageRecord], Pixels]:
    return lambda record: cache.image(index, lambda: read_image(record))


def _end_with_parent() -> None:
    """A killed trainer must not leave its workers behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _layout(slots: int, batch_size: int, settings: SampleSettings) -> Layout:
    """Shapes and types of the pixels and of each target, in shared memory one after the other."""
    shapes = settings.target_shapes
    batch = (slots, batch_size)
    return [
        ((*batch, *settings.network_hw, 3), np.dtype(np.uint8)),
        *(((*batch, *shape), np.dtype(np.float16)) for shape in shapes[:-1]),
        ((*batch, *shapes.people), np.dtype(np.float32)),
    ]


def _arrays_in(memory: shared_memory.SharedMemory, layout: Layout) -> list[NDArray[Any]]:
    arrays, offset = [], 0
    for shape, dtype in layout:
        array: NDArray[Any] = np.ndarray(shape, dtype, memory.buf, offset=offset)
        arrays.append(array)
        offset += array.nbytes
    return arrays
