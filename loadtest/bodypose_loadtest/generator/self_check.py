"""Locust's check of itself: a process that is blocked counts a failure.

A greenlet asks to be woken again and again. When something blocks the process, such as gRPC without
gevent, it wakes late: users then take turns, and each reports the short latency of an idle server.
"""

from __future__ import annotations

import time
from typing import Any

import gevent

_NAP_S = 0.02
_WINDOW_S = 2.0
_MAX_BLOCKED = 0.5


class GeneratorBlocked(Exception):
    """The load generator was the limit, not the server."""


def watch(environment: Any) -> gevent.Greenlet:
    """Watch from now on; kill the greenlet to stop."""
    return gevent.spawn(_watch, environment)


def _watch(environment: Any) -> None:
    last = 0.0
    while True:
        now = _blocked_share()
        blocked, last = min(last, now), now  # one bad window may be another program's
        if blocked > _MAX_BLOCKED:
            environment.events.request.fire(
                request_type="self-check",
                name="generator",
                response_time=None,
                response_length=0,
                exception=GeneratorBlocked(
                    f"this process was blocked {blocked:.0%} of the time: calls are serialised or"
                    " its core is full; these are not the server's numbers"
                ),
                context={},
            )


def _blocked_share() -> float:
    """The part of a window's time that naps took beyond what they asked for."""
    begin, naps = time.monotonic(), 0
    while time.monotonic() - begin < _WINDOW_S:
        gevent.sleep(_NAP_S)
        naps += 1
    return 1 - naps * _NAP_S / (time.monotonic() - begin)
