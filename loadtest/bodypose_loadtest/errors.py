"""What can go wrong in a load test.

PoseError                (pose_runtime/errors.py)
└── LoadTestError
    ├── PlanError        options that do not make a load test
    ├── NoServer         the embedded server did not start
    ├── GeneratorError   a generator process ended before its work was done
    └── ReportError      a report to compare with is not one

An answer that the server refuses is no error of ours: it is counted, by kind.
"""

from __future__ import annotations

from pose_runtime.errors import PoseError


class LoadTestError(PoseError):
    """Base of what can go wrong in a load test."""


class PlanError(LoadTestError):
    """Options that do not make a load test."""


class NoServer(LoadTestError):
    """The embedded server did not start."""


class GeneratorError(LoadTestError):
    """A generator process ended before its work was done."""


class ReportError(LoadTestError):
    """A report to compare with is missing or is not one."""
