"""PyTorch's older .pth files, read without PyTorch: tensors only, no code is run.

Such a file is five pickles (magic number, protocol, machine, the object, the storages' keys), then
each storage as a count and its numbers. A pickle may name any function; here it may name four,
and none of them is called: they stand for plain data.
"""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pose_runtime.errors import PoseError

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_DTYPES: Final = {"FloatStorage": "<f4", "LongStorage": "<i8"}


class TorchFileError(PoseError):
    """Not a .pth file of plain tensors."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Where a tensor's numbers lie; PyTorch's `_rebuild_tensor_v2` has these arguments."""

    storage: tuple[str, str]  # dtype, key
    offset: int
    shape: Sequence[int]
    strides: Sequence[int]


def read_tensors(content: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a state dict, by name.

    Raises:
        TorchFileError: another format, damaged, or a pickle of other things than tensors.
    """
    file = BytesIO(content)
    try:
        magic, protocol, _, tensors, keys = (_OnlyTensors(file).load() for _ in range(5))
        if (magic, protocol) != (_MAGIC, _PROTOCOL):
            raise TorchFileError(f"expected a .pth of protocol {_PROTOCOL}, got {protocol!r:.40}")
        dtypes = {tensor.storage[1]: tensor.storage[0] for tensor in tensors.values()}
        storages = {key: _numbers(file, dtypes[key]) for key in keys}
        return {name: _array(tensor, storages) for name, tensor in tensors.items()}
    except (
        *(pickle.UnpicklingError, EOFError, struct.error, ValueError, TypeError),
        *(KeyError, AttributeError, IndexError, OverflowError, MemoryError),
    ) as error:
        raise TorchFileError(f"expected a .pth file of tensors, got {error!r:.120}") from error


class _OnlyTensors(pickle.Unpickler):
    """An unpickler of tensors and ordered dicts that refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise TorchFileError(f"expected tensors only, got a call of {module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        kind, dtype, key, *_ = pid
        if kind != "storage" or dtype not in _DTYPES.values():
            raise TorchFileError(f"expected a storage of numbers, got {pid!r:.60}")
        return dtype, key


def _tensor(
    storage: tuple[str, str], offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _numbers(file: BytesIO, dtype: str) -> NDArray[Any]:
    (count,) = struct.unpack("<q", file.read(8))
    size = count * np.dtype(dtype).itemsize
    raw = file.read(size)
    if count < 0 or len(raw) != size:
        raise EOFError(f"{len(raw)} of {size} bytes")
    return np.frombuffer(raw, dtype)


def _array(tensor: _Tensor, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """A tensor's numbers; strides count numbers, and axes may lie in any order."""
    where = np.full(tuple(tensor.shape), tensor.offset, np.int64)
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.strides, strict=True)):
        along = [1] * len(tensor.shape)
        along[axis] = size
        where = where + np.arange(size).reshape(along) * stride
    numbers = storages[tensor.storage[1]]
    if where.size and not 0 <= where.min() <= where.max() < len(numbers):
        raise IndexError(f"{where.max()} of {len(numbers)} numbers")
    return np.asarray(numbers[where])
