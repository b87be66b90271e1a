"""What a person may choose of an export."""

from __future__ import annotations

from enum import StrEnum


class DataType(StrEnum):
    """Arithmetic of an exported graph."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
