"""What can go wrong, as one tree.

PoseError
├── ContractError        a tensor has the wrong name, dtype, shape or values (a caller's mistake)
├── ImageError           bytes that are not an image we accept (a caller's mistake)
│   ├── UnknownFormat    no format that we accept
│   ├── DamagedImage     of such a format, but cut short or damaged
│   └── BeyondLimit      beyond one of `spec.ImageLimits`
├── BadImages            some images of a batch have an `ImageError` each
├── ServerFull           too many images under way (nobody's mistake; ask again)
├── ServerStopping       the server takes no more images (nobody's mistake; ask another)
├── Cancelled            nobody waits for the answer any more
├── EngineError          a TensorRT engine cannot be built or run here
├── NotFinite            the network answered NaN or infinity (the model's mistake)
└── SpecError            a skeleton or pipeline description contradicts itself (our mistake)

`client/errors.py` and the modules of `tools` hang their own leaves under `PoseError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class PoseError(Exception):
    """Base of every error this project raises on purpose; its text is one line for a person."""

    reason = "internal"  # one of `REASONS`: what /metrics counts it under


class ContractError(PoseError):
    """A tensor does not match its `TensorSpec`."""

    reason = "contract"

    def __init__(self, name: str, expected: str, got: str) -> None:
        super().__init__(f"{name}: expected {expected}, got {got}")


class ImageError(PoseError):
    """The bytes of a request are not an image that this pipeline accepts."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"image: expected {expected}, got {got}")
        self.expected, self.got = expected, got


class UnknownFormat(ImageError):
    """Not one of the image formats that are accepted."""

    reason = "format"


class DamagedImage(ImageError):
    """The header promises an image that the bytes do not hold."""

    reason = "damaged"


class BeyondLimit(ImageError):
    """An image that one of the limits forbids; the message names it."""

    def __init__(self, limit: str, expected: str, got: str) -> None:
        super().__init__(f"{expected} ({limit})", got)
        self.reason = limit


class BadImages(PoseError):
    """Images of a batch that nothing decodes; the others are sound."""

    def __init__(self, errors: Mapping[int, ImageError]) -> None:
        super().__init__("; ".join(f"image {at}: {error}" for at, error in errors.items()))
        self.errors = errors

    def by_request(self, images: Sequence[int]) -> Iterator[tuple[int, ImageError]]:
        """The first error of each request that has one, with the request's number.

        Args:
            images: of each request, in the order of the batch.
        """
        first = 0
        for request, count in enumerate(images):
            for at in range(count):
                if error := self.errors.get(first + at):
                    if count > 1:
                        error.args = (f"batch index {at} (of 0..{count - 1}): {error}",)
                    yield request, error
                    break
            first += count


class ServerFull(PoseError):
    """More images are under way than the server allows; asking again later helps."""

    reason = "full"

    def __init__(self, limit: int, under_way: int) -> None:
        super().__init__(
            f"queue: expected at most {limit} images under way, got {under_way} already;"
            " ask again later"
        )


class ServerStopping(PoseError):
    """The server takes no more images; another one does."""

    reason = "stopping"

    def __init__(self) -> None:
        super().__init__("server: expected one that goes on, got one that is stopping; ask another")


class Cancelled(PoseError):
    """The sender gave the request up, or its deadline has passed: it is not computed."""

    reason = "cancelled"

    def __init__(self) -> None:
        super().__init__("request: expected somebody who waits for the answer, got nobody")


class NotFinite(PoseError):
    """The network gave NaN or infinity for an image."""

    reason = "not_finite"


class EngineError(PoseError):
    """An engine cannot be built or run here, or does not compute as its graph does."""


class SpecError(PoseError):
    """A `Skeleton` or `PipelineSpec` contradicts itself."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error, at most 300 characters; its type without any."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


# The fixed set of reasons that `pose_rejected_images_total` tells apart.
REASONS = (
    "format",
    "damaged",
    "max_bytes",
    "max_pixels",
    "max_decode_ms",
    "contract",
    "full",
    "stopping",
    "cancelled",
    "not_finite",
    "internal",
)
