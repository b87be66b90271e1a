"""What a person may choose of INT8: calibration, limits of the gates, what follows a miss."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

MAX_JOINT_SHIFT = 4.0  # network pixels: half a cell of the fields
MIN_AGREEMENT = 0.99  # share of joints that must stay within `MAX_JOINT_SHIFT`
MAX_AP_DROP = 0.005
MAX_SPLIT_IMAGES = 500  # of each split on which a gate measures AP


class Method(StrEnum):
    """How the largest absolute value that is not clipped is chosen from a histogram."""

    ENTROPY = "entropy"  # least Kullback-Leibler divergence; clips rare values
    PERCENTILE = "percentile"  # 99.99 % of all values
    MAX = "max"  # every value


class OnMiss(StrEnum):
    """What to do when a gate is missed."""

    REPORT = "report"
    MIX = "mix"


@dataclass(frozen=True, slots=True)
class Calibration:
    """The images or files from which the scales come."""

    images: int  # batches x batch_size
    method: Method
    image_dir: Path | None = None
    data_file: Path | None = None  # read when it exists, else written
    cache_file: Path | None = None  # read when it exists, else written
