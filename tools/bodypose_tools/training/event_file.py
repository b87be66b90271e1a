"""Owns TensorBoard's event file: scalars that TensorBoard shows, written without TensorFlow.

An event file is a sequence of framed protobuf messages; both are simple enough to write by hand,
so that a training host needs no package for it. Source: TensorFlow's `record_writer.h` (framing)
and `event.proto`, `summary.proto` (messages).
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

_CRC32C_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
# Protobuf's wire types.
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class EventFile:
    """One event file in a folder; what is written is on disk at once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._write(_field(1, _FIXED64, struct.pack("<d", now)) + _text(3, "brain.Event:2"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers of one step, each under its tag."""
        summary = b"".join(
            _bytes(1, _text(1, tag) + _field(2, _FIXED32, struct.pack("<f", value)))
            for tag, value in values.items()
        )
        wall_time = _field(1, _FIXED64, struct.pack("<d", time.time()))
        self._write(wall_time + _field(2, _VARINT, _varint(step)) + _bytes(5, summary))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked_crc(length) + event + _masked_crc(event))
        self._file.flush()


def _field(number: int, wire_type: int, payload: bytes) -> bytes:
    return _varint(number << 3 | wire_type) + payload


def _bytes(number: int, payload: bytes) -> bytes:
    return _field(number, _LENGTH, _varint(len(payload)) + payload)


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _varint(value: int) -> bytes:
    coded = bytearray()
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF)


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli's polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _crc_of_byte(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (_CRC32C_POLYNOMIAL if byte & 1 else 0)
    return byte


_CRC_TABLE = [_crc_of_byte(byte) for byte in range(256)]
