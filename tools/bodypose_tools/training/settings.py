"""What a person may choose about training on the command line."""

from __future__ import annotations

from enum import StrEnum


class DatasetMode(StrEnum):
    """A part of TAO's data-set spec."""

    TRAIN = "train"
    TEST = "test"
