"""Errors in words for people: no addresses, no types, no bytes."""

import pytest

from bodypose_client.demo.words import in_words
from bodypose_client.errors import (
    AccessDenied,
    ModelNotFound,
    RateLimited,
    RequestRejected,
    ServerBusy,
    ServerTimeout,
    ServerUnavailable,
    TlsFailed,
    WrongProtocol,
)
from pose_runtime.errors import PoseError
from pose_runtime.images import decode_image
from pose_runtime.spec import ImageLimits

WHERE = "grpc://here"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ServerUnavailable(WHERE, "gone"), "No pose server answers"),
        (WrongProtocol(WHERE, "HTTP", "http://here"), "over another protocol"),
        (TlsFailed(WHERE, "no"), "encrypted"),
        (AccessDenied(WHERE, "401"), "token"),
        (ServerTimeout(WHERE, 1.0), "did not answer in time"),
        (ModelNotFound(WHERE, "no"), "no pose model"),
        (ServerBusy(WHERE, "full"), "too much to do"),
        (RateLimited(WHERE, "429"), "too much to do"),
        (RequestRejected("pixels: expected something else, got b'x'"), "does not accept it"),
    ],
)
def test_each_error_has_words(error, words):
    assert words in in_words(error)
    assert WHERE not in in_words(error)
    assert "'" not in in_words(error).replace("server's", "")


def refusal(data, limits):
    with pytest.raises(PoseError) as refused:
        decode_image(data, limits)
    return in_words(RequestRejected(str(refused.value)))


def jpeg():
    from bodypose_client.pictures.examples import EXAMPLES

    return EXAMPLES["yoga"].read_bytes()


@pytest.mark.parametrize(
    ("data", "limits", "words"),
    [
        (b"<b>hello</b>", ImageLimits(), "not a JPEG, PNG, WebP or BMP"),
        (jpeg()[:5000], ImageLimits(), "damaged or not complete"),
        (jpeg(), ImageLimits(max_bytes=1000), "too large"),
        (jpeg(), ImageLimits(max_pixels=1000), "too many pixels"),
    ],
)
def test_a_refused_picture_is_told_by_what_is_wrong_with_it(data, limits, words):
    assert words in refusal(data, limits)
