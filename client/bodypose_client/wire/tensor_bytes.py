"""KServe v2's raw form of a tensor, which gRPC messages and shared memory hold."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose_runtime.spec import NUMPY_DTYPES

_NAMES = {np.dtype(dtype): name for name, dtype in NUMPY_DTYPES.items()}


def wire_dtype(array: NDArray[Any]) -> str:
    """KServe's name of an array's type."""
    return _NAMES[array.dtype]


def wire_bytes(array: NDArray[Any]) -> bytes:
    """Row-major bytes; each element of a BYTES tensor has its length before it, little-endian."""
    if array.dtype != np.object_:
        return array.tobytes()
    return b"".join(
        part for element in array.flat for part in (struct.pack("<I", len(element)), element)
    )
