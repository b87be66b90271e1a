"""What Locust loads, with its page, processes and reports.

locust -f loadtest/bodypose_loadtest/locustfile.py PoseGrpcUser --headless -u 8 -t 30s
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import gevent
import locust
import locust.runners
import locust.stats

from bodypose_loadtest.generator.self_check import watch
from bodypose_loadtest.generator.users import (
    PoseGrpcUser,
    PoseHttpUser,
    encoded_images,
    percentile_bucket,
    prepare,
)

__all__ = ["PoseGrpcUser", "PoseHttpUser"]

_hooks: Any = locust.events  # untyped
_statistics: Any = locust.stats
_watching: list[gevent.Greenlet] = []
_log = logging.getLogger(__name__)
_NOTHING_SENT = 1  # exit code


def _add_options(parser: Any) -> None:
    parser.add_argument(
        "--images",
        metavar="DIR",
        default="",
        type=_folder,
        help="Folder of images to send; without it they are drawn.",
    )


def _folder(path: str) -> str:
    if path and not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, got {path}")
    return path


def _prepare(environment: Any, **_: Any) -> None:
    """Draw and import before `--run-time` begins to count.

    gevent counts from when its loop last looked at the clock, which was before Locust's imports: a
    slow machine would have no time left to send anything.
    """
    if environment.parsed_options is not None:
        prepare(environment.parsed_options.images, environment.user_classes)
    gevent.get_hub().loop.update_now()


def _start_watching(environment: Any, **_: Any) -> None:
    encoded_images(environment.parsed_options.images)  # another folder may be typed into the page
    _watching.append(watch(environment))


def _stop_watching(**_: Any) -> None:
    gevent.killall(_watching)
    _watching.clear()


def _complain_of_nothing(environment: Any, **_: Any) -> None:
    """A headless run that sent nothing has not passed."""
    options, runner = environment.parsed_options, environment.runner
    counts_all = not isinstance(runner, locust.runners.WorkerRunner)
    if counts_all and options.headless and not environment.stats.total.num_requests:
        _log.error("expected requests, got none: give the run more time (-t) or more users (-u)")
        environment.process_exit_code = _NOTHING_SENT


_statistics.bucket_response_time = percentile_bucket
_hooks.init_command_line_parser.add_listener(_add_options)
_hooks.init.add_listener(_prepare)
_hooks.test_start.add_listener(_start_watching)
_hooks.test_stop.add_listener(_stop_watching)
_hooks.quitting.add_listener(_complain_of_nothing)
