"""What Locust loads: `locust -f loadtest/locustfile.py`, with its page, processes and reports.

locust -f loadtest/locustfile.py PoseGrpcUser --headless -u 8 -t 30s --csv build/locust
"""

from __future__ import annotations

from typing import Any

import gevent
import locust
import locust.stats

from bodypose_loadtest.generator.self_check import watch
from bodypose_loadtest.generator.users import (
    PoseGrpcUser,
    PoseHttpUser,
    encoded_images,
    percentile_bucket,
)

__all__ = ["PoseGrpcUser", "PoseHttpUser"]

_hooks: Any = locust.events  # untyped
_statistics: Any = locust.stats
_watching: list[gevent.Greenlet] = []


def _add_options(parser: Any) -> None:
    parser.add_argument("--images", metavar="DIR", default="", help="Images to send; none: drawn.")


def _start_watching(environment: Any, **_: Any) -> None:
    encoded_images(environment.parsed_options.images)  # takes a second, which is not to be watched
    _watching.append(watch(environment))


def _stop_watching(**_: Any) -> None:
    gevent.killall(_watching)
    _watching.clear()


_statistics.bucket_response_time = percentile_bucket
_hooks.init_command_line_parser.add_listener(_add_options)
_hooks.test_start.add_listener(_start_watching)
_hooks.test_stop.add_listener(_stop_watching)
