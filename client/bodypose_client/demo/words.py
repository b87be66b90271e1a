"""Errors in words for people who look at a page: what happened, and what they can do."""

from __future__ import annotations

import re
from typing import Final

from bodypose_client.errors import (
    AccessDenied,
    ModelNotFound,
    NotAPoseModel,
    RateLimited,
    ServerBusy,
    ServerTimeout,
    ServerUnavailable,
    TlsFailed,
    WrongProtocol,
)
from pose_runtime.errors import PoseError

_BUSY = "The server has too much to do at the moment. Try again in a few seconds."
# The first match counts.
_BY_ERROR: Final[dict[type[PoseError], str]] = {
    WrongProtocol: "A server answers at this address, but over another protocol.",
    ServerUnavailable: "No pose server answers at this address. Start one with `tools serve`.",
    TlsFailed: "The server and this page do not agree on an encrypted connection.",
    AccessDenied: "The server wants a token or a certificate; start this page with `--token`.",
    ServerTimeout: "The server did not answer in time. It may be busy; try again.",
    ModelNotFound: "The server runs, but it has no pose model. Build one with `tools build-repo`.",
    NotAPoseModel: "The server's model is not a pose model.",
    ServerBusy: _BUSY,
    RateLimited: _BUSY,
}
# What a refused picture was expected to be -> what is wrong with it.
_BY_EXPECTED: Final = (
    (r"expected JPEG, PNG, WebP or BMP", "It is not a JPEG, PNG, WebP or BMP picture."),
    (r"max_bytes|at most \d+ bytes", "The file is too large for the server."),
    (r"max_pixels", "It has too many pixels; send a smaller version."),
    (r"max_decode_ms", "It takes too long to read; send a smaller version."),
    (r"expected a whole|as its header says|at least 1 x 1", "It is damaged or not complete."),
)
_REFUSED = "The server does not accept it."


def in_words(error: PoseError) -> str:
    """One or two sentences without addresses, types or bytes; the error's own text has those."""
    for kind, words in _BY_ERROR.items():
        if isinstance(error, kind):
            return words
    found = (words for pattern, words in _BY_EXPECTED if re.search(pattern, str(error)))
    return next(found, _REFUSED)
