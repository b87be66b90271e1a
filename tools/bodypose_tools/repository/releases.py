"""Releases of Triton's container: the config fields that each reads, and its TensorRT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pose_runtime.errors import PoseError


class TritonVersionError(PoseError):
    """A text is not a release of Triton's container."""


@dataclass(frozen=True, slots=True, order=True)
class TritonVersion:
    """A container release, YY.MM."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: object) -> TritonVersion:
        """Raises: TritonVersionError: not YY.MM."""
        if not isinstance(text, str) or not re.fullmatch(r"2\d\.(0[1-9]|1[0-2])", text):
            raise TritonVersionError(
                f"expected a release of Triton's container such as {RECENT}, got {text}"
            )
        return cls(*map(int, text.split(".")))

    def __str__(self) -> str:
        return f"{self.year}.{self.month:02}"

    @property
    def image(self) -> str:
        """The container image of this release."""
        return f"nvcr.io/nvidia/tritonserver:{self}-py3"


EMBEDDED: Final = TritonVersion(24, 10)  # tritonserver 2.51 in the nvidia-pytriton wheel
RECENT: Final = TritonVersion(26, 7)  # the oldest with all published fixes, see docs/security.md

# A release refuses a config with a field that it does not know. This limit exists since the end of
# 2025; since 2026-04 it counts all requests of an ensemble together.
_FIRST_WITH: Final = {"max_inflight_requests": TritonVersion(26, 5)}

# TensorRT in the `-py3` images, as published: NVIDIA's far3d notes (25.06), users who built
# and loaded plans with these images (25.10, 25.12, 26.04, 26.05), NVIDIA Model Optimizer's CI
# (26.06), a listing of the image (26.07). Versions of the other images lie between these.
_TENSORRT: Final = {
    TritonVersion(25, 6): "10.11.0",
    TritonVersion(25, 10): "10.13.3",
    TritonVersion(25, 12): "10.14.1",
    TritonVersion(26, 4): "10.16.1",
    TritonVersion(26, 5): "10.16.1",
    TritonVersion(26, 6): "11.0",
    TritonVersion(26, 7): "11.1.0",
}


def knows(version: TritonVersion, field: str) -> bool:
    """Whether a release reads this field of config.pbtxt."""
    return version >= _FIRST_WITH[field]


def why_plan_does_not_load(
    built_with: str, version_compatible: bool, server: TritonVersion
) -> str | None:
    """The TensorRT of a release that does not load a plan; None when it loads it, or is not known.

    Args:
        built_with: the plan's TensorRT, such as "10.13.3.9".
        version_compatible: whether the plan has that flag: newer servers load it, too.
        server: release that is to load the plan.
    """
    plan = _numbers(built_with)
    oldest, newest = _bounds(server)
    too_new = newest is not None and plan[: len(newest)] > newest
    too_old = oldest is not None and plan[: len(oldest)] < oldest and not version_compatible
    if not (too_new or too_old):
        return None
    known = _TENSORRT.get(server)
    if known is not None:
        return f"TensorRT {known}"
    ends = (oldest and f"at least {_text(oldest)}", newest and f"at most {_text(newest)}")
    return f"TensorRT {' and '.join(end for end in ends if end)}"


def _bounds(server: TritonVersion) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The oldest and the newest TensorRT that a release can have, because versions only rise."""
    before = [text for release, text in _TENSORRT.items() if release <= server]
    after = [text for release, text in _TENSORRT.items() if release >= server]
    return (_numbers(before[-1]) if before else None, _numbers(after[0]) if after else None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
