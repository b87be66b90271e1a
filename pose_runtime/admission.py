"""The places of one server's images between preprocessing and grouping: more are refused at once.

Triton's own bound, `max_queue_size`, costs latency: with it the dynamic batcher fetches nothing in
advance, and nobody tells it when an instance becomes free. Requests then wait for the next one to
arrive, or for half a second (triton-inference-server/core, `WaitForPayloadSlotAvailable` and
`PriorityQueue`, 24.03 to 26.07). So the models count for themselves, in a file that all of them
map. Preprocessing takes a place for each image, and its name travels with the image to grouping,
which gives it back.

An image may be lost on its way: Triton drops what its sender gave up between two steps, and tells
no model. Its place is given back when it can no longer arrive, see `Admission.count`.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import ServerFull, ServerStopping, SpecError

Names = list[int]
Places = NDArray[np.int64]  # (B, 2): name and deadline (ns of this host's monotonic clock), 0: none

MOST_PLACES = 4096
# How long a place that nobody works on, and whose turn has come, waits for its image.
LOST_NS = 10**9
# Longer than any model works on one request: the work has ended without a word.
_LONGEST_WORK_NS = 10 * 10**9

_SLOT_BITS = (MOST_PLACES - 1).bit_length()
# The header: places taken, last slot, when the youngest image that went on had been preprocessed,
# when one last went on, the longest recent pause of those that waited (these three in ns), whether
# the server is stopping.
_TAKEN, _LAST, _REACHED, _MOVED, _PAUSE, _CLOSED = range(6)
_HEADER = 8
# One column for each fact about a slot.
_NAME, _PASSED, _CHANGED, _DEADLINE, _WORK = (_HEADER + MOST_PLACES * i for i in range(5))
_SIZE = 8 * (_HEADER + 5 * MOST_PLACES)
_WAITS, _IN_PREPROCESSING, _BEHIND_IT = range(3)  # values of the column `_WORK`


class Admission:
    """The places of one server, from one of its models' processes."""

    def __init__(self, file: Path) -> None:
        """Map the places.

        Args:
            file: made here if another model has not; the same for all models of a server.

        Raises:
            OSError: the file cannot be made or mapped.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(file, flags, 0o600)
        # Not a hole: writing to one on a full disk would kill the process.
        os.posix_fallocate(self._file, 0, _SIZE)
        mapped = mmap.mmap(self._file, _SIZE)
        self._cells = memoryview(mapped).cast("q")
        self._table = np.frombuffer(mapped, np.int64, offset=8 * _HEADER).reshape(5, MOST_PLACES)

    @classmethod
    def of_this_server(cls) -> Admission:
        """The one that the models of this process's tritonserver share.

        In TMPDIR, or where Triton's Python models need to write anyway.

        Raises:
            OSError: as above.
        """
        folder = Path(os.environ.get("TMPDIR", "/dev/shm"))
        return cls(folder / places_file(os.getppid()))

    def take(self, images: int, *, limit: int, deadline_ns: int = 0) -> Names:
        """Places for the images of one request, which preprocessing works on from now on.

        Args:
            images: of the request.
            limit: of the images under way; one request may have more when there are none.
            deadline_ns: when nobody wants the answer any more; 0: never.

        Raises:
            ServerFull: too many are under way.
            ServerStopping: `close` was called.
        """
        with self._locked() as now:
            if self._cells[_CLOSED]:
                raise ServerStopping
            under_way = self._cells[_TAKEN]
            if under_way + images > limit:
                under_way = self._count(now)
            if under_way and under_way + images > limit:
                raise ServerFull(limit, under_way)
            return [self._take_one(now, deadline_ns) for _ in range(images)]

    def pass_on(self, names: Iterable[int]) -> None:
        """These images wait for the next model."""
        with self._locked() as now:
            for slot in self._slots_of(names):
                if self._cells[_WORK + slot] == _BEHIND_IT:
                    self._cells[_MOVED] = now
                if self._cells[_WORK + slot] == _IN_PREPROCESSING:
                    self._cells[_PASSED + slot] = now
                self._cells[_WORK + slot] = _WAITS
                self._cells[_CHANGED + slot] = now

    def claim(self, names: Iterable[int]) -> int | None:
        """A model behind preprocessing works on these images.

        Returns:
            How long the first has waited for it (ns); None: they have no such places.
        """
        with self._locked() as now:
            cells, slots = self._cells, self._slots_of(names)
            if not slots:
                return None
            waited = now - cells[_CHANGED + slots[0]]
            paused = now - max(cells[_MOVED], cells[_CHANGED + slots[0]])
            cells[_PAUSE] = max(paused, cells[_PAUSE] * 9 // 10)
            cells[_MOVED] = now
            for slot in slots:
                cells[_REACHED] = max(cells[_REACHED], cells[_PASSED + slot])
                cells[_CHANGED + slot] = now
                cells[_WORK + slot] = _BEHIND_IT
            return waited

    def give_back(self, names: Iterable[int]) -> None:
        """These images are done, whether they failed or not; a place is given back once."""
        with self._locked() as now:
            for slot in self._slots_of(names):
                self._free(slot)
                self._cells[_MOVED] = now

    def close(self) -> None:
        """No more images are taken; those under way go on."""
        self._cells[_CLOSED] = True

    @property
    def is_idle(self) -> bool:
        """Whether no image is under way."""
        return not self._cells[_TAKEN]

    @property
    def moved_ns(self) -> int:
        """When an image last went on behind preprocessing (ns, monotonic)."""
        return self._cells[_MOVED]

    def count(self) -> int:
        """Images under way, without those that can no longer arrive.

        A place is lost when its deadline has passed while nobody worked on the image, and a second
        after its image should have come: one that was preprocessed a second later has gone on, or
        no model behind preprocessing works on any and none has gone on. Where those models take
        longer than half a second from one image to the next, it is twice that time.
        """
        with self._locked() as now:
            return self._count(now)

    def _count(self, now: int) -> int:
        name, passed, changed, deadline, work = self._table
        waits = (name != 0) & (work == _WAITS)
        quiet_ns = now - np.maximum(changed, self._cells[_MOVED])
        lost = waits & (deadline != 0) & (deadline < now)
        lost |= waits & (passed < self._cells[_REACHED] - LOST_NS) & (now - changed > LOST_NS)
        if not (work == _BEHIND_IT).any():
            lost |= waits & (quiet_ns > max(LOST_NS, 2 * self._cells[_PAUSE]))
        lost |= (work != _WAITS) & (now - changed > _LONGEST_WORK_NS)
        for slot in np.flatnonzero(lost).tolist():
            self._free(slot)
        return self._cells[_TAKEN]

    def _take_one(self, now: int, deadline_ns: int) -> int:
        cells, slot = self._cells, self._cells[_LAST]
        if cells[_TAKEN] == MOST_PLACES:
            raise ServerFull(MOST_PLACES, MOST_PLACES)
        while True:
            slot = (slot + 1) % MOST_PLACES
            if not cells[_NAME + slot]:
                break
        # Nobody can guess a name, so a caller of grouping gives back no other's place.
        secret = int.from_bytes(os.urandom(6), "little") | 1
        cells[_NAME + slot] = secret << _SLOT_BITS | slot
        cells[_PASSED + slot] = cells[_CHANGED + slot] = now
        cells[_DEADLINE + slot] = deadline_ns
        cells[_WORK + slot] = _IN_PREPROCESSING
        cells[_LAST] = slot
        cells[_TAKEN] += 1
        return cells[_NAME + slot]

    def _free(self, slot: int) -> None:
        self._cells[_NAME + slot] = self._cells[_WORK + slot] = 0
        self._cells[_TAKEN] -= 1

    def _slots_of(self, names: Iterable[int]) -> list[int]:
        """Of those names that are places now."""
        slots = {name & (MOST_PLACES - 1): name for name in names if name}
        return [slot for slot, name in slots.items() if self._cells[_NAME + slot] == name]

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Nobody else reads or writes meanwhile; gives the time (ns, monotonic)."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            yield time.monotonic_ns()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)


def places_file(server: int) -> str:
    """The name of the file in which the models of a tritonserver process count."""
    since = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[19]
    return f"bodypose-{server}-{since}.places"


def check_limit(limit: int) -> int:
    """`limit`, if so many images can be under way.

    Raises:
        SpecError: they cannot.
    """
    if not 0 < limit <= MOST_PLACES // 2:
        raise SpecError(f"max_images_under_way: expected 1 to {MOST_PLACES // 2}, got {limit}")
    return limit
