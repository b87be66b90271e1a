"""A request's time by the server's models, from Triton's statistics extension.

A server that is plain KServe v2 has no statistics, another forbids them: then there is no split.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from bodypose_client.errors import ClientError
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.connection import ModelStatistics

Answer = TypeVar("Answer")
Counts = Mapping[str, ModelStatistics]  # by model

# A model counts a request a moment after its answer is on its way.
_READS = 3
_PAUSE_S = 0.002


def timed_by_model(
    client: PoseClient, ask: Callable[[], Answer]
) -> tuple[Answer, dict[str, float]]:
    """The answer of `ask`, and milliseconds of each of the server's models while it was asked.

    Keys are `queue` (all models together) and the models' names, for their computing. When others
    ask at the same time, the numbers are means over their requests and ours.
    """
    before = _counts(client)
    answer = ask()
    for _ in range(_READS):
        after = _counts(client)
        if all(after[name].requests > before[name].requests for name in after if name in before):
            break
        time.sleep(_PAUSE_S)
    return answer, _split_ms(before, after)


def _counts(client: PoseClient) -> Counts:
    """Statistics of the ensemble's models; its own numbers are their sums."""
    try:
        models = client.inspect().models
    except ClientError:  # forbidden, or the server is away: then the request itself fails
        return {}
    steps = f"{client.model.name}_"
    return {model.name: model for model in models if model.name.startswith(steps)}


def _split_ms(before: Counts, after: Counts) -> dict[str, float]:
    split: dict[str, float] = {}
    for name, now in after.items():
        was = before.get(name)
        requests = now.requests - was.requests if was else 0
        if was is None or requests <= 0:  # nothing to say, or a restart
            continue
        counted = now.requests + now.warm_ups, was.requests + was.warm_ups  # by the means
        queue_ms = now.queue_ms * counted[0] - was.queue_ms * counted[1]
        compute_ms = now.compute_ms * counted[0] - was.compute_ms * counted[1]
        split["queue"] = split.get("queue", 0) + queue_ms / requests
        split[name] = compute_ms / requests
    return split
