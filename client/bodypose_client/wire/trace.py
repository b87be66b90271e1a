"""W3C trace context: the `traceparent` header that joins a request to its caller's trace.

Source: W3C Trace Context, level 1, section 3.2.
"""

from __future__ import annotations

import re
import secrets

from pose_runtime.errors import ContractError

HEADER = "traceparent"
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def new_traceparent() -> str:
    """The start of a new trace, marked to be recorded."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def check_traceparent(text: str) -> str:
    """`text`, passed through unchanged when it is a traceparent.

    Raises:
        ContractError: it is none.
    """
    if not _FORM.fullmatch(text):
        raise ContractError(HEADER, "version-trace-span-flags in lower hexadecimal", repr(text))
    return text
