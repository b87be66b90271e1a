"""Owns how many images may be between preprocessing and grouping: more are refused at once.

Triton's own bound, `max_queue_size`, costs latency: with it the dynamic batcher fetches nothing in
advance, and nobody tells it when an instance becomes free. Requests then wait for the next one to
arrive, or for half a second (triton-inference-server/core, `WaitForPayloadSlotAvailable` and
`PriorityQueue`, 24.03 to 26.07). So the models count for themselves, in a file that all of them
map: preprocessing adds an image, grouping takes it away.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import ServerFull

# An image may be lost on its way, when its sender gives up: then nothing takes it away. So a count
# that has not moved for longer than any network works on a batch is nobody's.
_STALE_NS = 10 * 10**9
_STATE = struct.Struct("=qq")  # images, time of the last change (ns, monotonic)


class Admission:
    """The count of one server's images, from one of its models' processes."""

    def __init__(self, file: Path) -> None:
        """Map the count.

        Args:
            file: made here if another model has not; the same for all models of a server.

        Raises:
            OSError: the file cannot be made or mapped.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(file, flags, 0o600)
        # Not a hole: writing to one on a full disk would kill the process.
        os.posix_fallocate(self._file, 0, _STATE.size)
        self._state = mmap.mmap(self._file, _STATE.size)

    @classmethod
    def of_this_server(cls) -> Admission:
        """The one that the models of this process's tritonserver share.

        In TMPDIR, or where Triton's Python models need to write anyway.

        Raises:
            OSError: as above.
        """
        server = os.getppid()
        since = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[19]
        folder = Path(os.environ.get("TMPDIR", "/dev/shm"))
        return cls(folder / f"bodypose-{server}-{since}.under-way")

    @contextmanager
    def entering(self, images: int, *, limit: int) -> Iterator[None]:
        """Around the work on images that go on to the next model, unless it fails.

        Args:
            images: of one request.
            limit: of the images under way; one request may have more when there are none.

        Raises:
            ServerFull: too many are under way.
        """
        with self._count() as (under_way, idle_ns):
            if idle_ns > _STALE_NS:
                under_way = 0
            if under_way and under_way + images > limit:
                raise ServerFull(limit, under_way)
            self._write(under_way + images)
        try:
            yield
        except BaseException:
            self._leave(images)
            raise

    @contextmanager
    def leaving(self, images: int) -> Iterator[None]:
        """Around the last work on images, whether it fails or not."""
        try:
            yield
        finally:
            self._leave(images)

    def _leave(self, images: int) -> None:
        with self._count() as (under_way, _):
            self._write(max(0, under_way - images))

    @contextmanager
    def _count(self) -> Iterator[tuple[int, int]]:
        """Images under way and for how long that has not changed (ns), locked."""
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            under_way, changed_ns = _STATE.unpack_from(self._state)
            yield under_way, time.monotonic_ns() - changed_ns
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _write(self, under_way: int) -> None:
        _STATE.pack_into(self._state, 0, under_way, time.monotonic_ns())
