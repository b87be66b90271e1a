"""Arrays from others: a `.npy` is as large as its header says, or refused before it is reserved."""

from __future__ import annotations

import io
import math
import tokenize
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


def array_of(data: bytes) -> NDArray[Any]:
    """The array of a `.npy`, without objects.

    Raises:
        ValueError: it is none, or its header promises another number of bytes than there are.
    """
    file = io.BytesIO(data)
    version = npy.read_magic(file)  # type: ignore[no-untyped-call]
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        shape, _, dtype = read(file)  # type: ignore[no-untyped-call]
    except (SyntaxError, tokenize.TokenError) as error:  # numpy reads a header as Python
        raise ValueError(f"a header that is damaged: {error}") from error
    if dtype.hasobject:
        raise ValueError("an array of objects")
    left, promised = len(data) - file.tell(), math.prod(shape) * dtype.itemsize
    if left != promised:
        raise ValueError(f"{left} bytes where its header promises {promised}")
    array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return array
