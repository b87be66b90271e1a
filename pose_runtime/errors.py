"""What can go wrong, as one tree.

PoseError
├── ContractError    a tensor has the wrong name, dtype, shape or values (a caller's mistake)
├── ImageError       bytes that are not an image we accept (a caller's mistake)
└── SpecError        a skeleton or pipeline description contradicts itself (our mistake)

`client/errors.py` and the modules of `tools` hang their own leaves under `PoseError`.
"""

from __future__ import annotations


class PoseError(Exception):
    """Base of every error this project raises on purpose; its text is one line for a person."""


class ContractError(PoseError):
    """A tensor does not match its `TensorSpec`."""

    def __init__(self, name: str, expected: str, got: str) -> None:
        super().__init__(f"{name}: expected {expected}, got {got}")


class ImageError(PoseError):
    """The bytes of a request are not an image that this pipeline accepts."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"image: expected {expected}, got {got}")


class SpecError(PoseError):
    """A `Skeleton` or `PipelineSpec` contradicts itself."""
