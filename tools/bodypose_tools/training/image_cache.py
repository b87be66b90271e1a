"""The cache of decoded images: shared memory of a fixed size, filled as images are decoded.

Without it every image is read from disk and decoded each time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import PoseError

Pixels = NDArray[np.uint8]

_SHARED_MEMORY = Path("/dev/shm")
_MIB = 2**20


class CacheError(PoseError):
    """The machine has less shared memory than the spec's `image_cache_mib`."""


class ImageCache:
    """Decoded images of the first records that fit into the limit; the others are not kept.

    Several processes may fill the same place at once: they write the same bytes.
    """

    def __init__(self, image_sizes: Sequence[tuple[int, int]], limit_mib: int) -> None:
        """Lay out the cache; `create` or `attach` provides the memory.

        Args:
            image_sizes: height and width of every image.
            limit_mib: size of the cache.
        """
        self._sizes = list(image_sizes)
        ends = np.cumsum([height * width * 3 for height, width in image_sizes], dtype=np.int64)
        self.num_cached = int(np.searchsorted(ends, limit_mib * _MIB, "right"))
        self._starts = np.concatenate([[0], ends[: self.num_cached]])
        self.num_bytes = int(self._starts[-1])
        self._name = ""

    def create(self) -> None:
        """Allocate the shared memory: the pixels, then a flag per image.

        Raises:
            CacheError: the machine has less shared memory free.
        """
        wanted = self.num_bytes + self.num_cached
        free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else wanted
        if wanted > free:
            raise CacheError(
                f"image_cache_mib: expected at most {free // _MIB} MiB, which is free in"
                f" {_SHARED_MEMORY}, got {wanted // _MIB}; lower it, or give a container more"
                " (--shm-size)"
            )
        if self.num_cached:
            self._memory = shared_memory.SharedMemory(create=True, size=wanted)
            self._name = self._memory.name
            self._buffer: Any = self._memory.buf

    def attach(self) -> None:
        """Open, in a worker process, the memory that `create` allocated in another."""
        if self._name:
            self._memory = shared_memory.SharedMemory(name=self._name)
            self._buffer = self._memory.buf

    def close(self) -> None:
        """Free the memory; for the process that created it."""
        if self._name:
            del self._buffer
            self._memory.close()
            self._memory.unlink()

    def image(self, index: int, decode: Callable[[], Pixels]) -> Pixels:
        """Image `index` (height, width, 3), decoded now or earlier; then it is not writeable."""
        if not self._name or index >= self.num_cached:
            return decode()
        flag = self.num_bytes + index
        if self._buffer[flag]:
            kept = self._place(index)
            kept.flags.writeable = False
            return kept
        image = decode()
        if image.shape[:2] == self._sizes[index]:  # else the caller raises
            self._place(index)[:] = image
            self._buffer[flag] = 1
        return image

    def _place(self, index: int) -> Pixels:
        shape = (*self._sizes[index], 3)
        start = int(self._starts[index])
        return np.ndarray(shape, np.uint8, self._buffer, offset=start)

    def __getstate__(self) -> dict[str, object]:
        return {
            key: value for key, value in self.__dict__.items() if key not in ("_memory", "_buffer")
        }
