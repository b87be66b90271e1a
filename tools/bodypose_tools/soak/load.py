"""The long run: steady load with hostile images, while models are killed.

The answer to every good image is known beforehand, so that lost, doubled and swapped answers are
found.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from bodypose_client.errors import RequestRejected
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import PATIENT
from bodypose_tools.server.embedded import EmbeddedServer
from bodypose_tools.server.load import closed_loop
from pose_runtime.errors import ImageError, PoseError
from pose_runtime.poses import Poses

from .settings import SoakPlan
from .watch import Sample, by_minute, growth_in, summary_of, take_sample

SCHEMA = "bodypose-soak/1"
# Requests under way at most. While the server restarts, requests wait.
_MAX_WAITING = 64
_TIMEOUT_S = 60.0
_SAME_PX = 0.5  # arithmetic in a batch may round in another order
_KNEE_S, _KNEE_CALLERS = 10.0, 8
_MAX_PROBLEMS = 10
_LAST_KILL_S = 20.0  # before the end, or half of the time between two kills
# In a shorter run, growth may be caches and threads that fill.
_SHORTEST_FOR_GROWTH_S = 600.0


@dataclass(frozen=True, slots=True)
class Question:
    """An image, and its expected answer; None: it must be refused."""

    name: str
    image: bytes
    answer: Poses | None


class Kind(IntEnum):
    """The outcome of a request."""

    MISSING, ANSWERED, REFUSED, WRONG, LOST = range(5)


class Tally:
    """The outcome of every request by its number, in memory allocated before the run."""

    def __init__(self, requests: int) -> None:
        self.kinds = np.zeros(requests, np.uint8)
        self.outcomes = np.zeros(requests, np.uint8)  # number of outcomes of each request: 1
        self.latencies_ms = np.zeros(requests, np.float32)
        self.problems: list[str] = []

    def enter(self, number: int, kind: Kind, latency_ms: float, problem: str) -> None:
        """Record the outcome of the request `number`, which one thread sends."""
        self.kinds[number] = kind
        self.outcomes[number] += 1
        self.latencies_ms[number] = latency_ms
        if problem and len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)

    def count(self, kind: Kind, sent: int) -> int:
        """Number of outcomes of this kind among the first `sent` requests."""
        return int((self.kinds[:sent] == kind).sum())


def ask_once(
    client: PoseClient, images: dict[str, bytes], hostile: dict[str, bytes]
) -> list[Question]:
    """The questions, with the answers of a server without other load.

    Raises:
        PoseError: the server refuses a good image, or answers a hostile one.
    """
    questions = [Question(name, image, client.infer(image)) for name, image in images.items()]
    for name, image in hostile.items():
        try:
            client.infer(image)
        except (RequestRejected, ImageError):
            questions.append(Question(name, image, None))
        else:
            raise PoseError(f"{name}: expected a hostile image to be refused, got an answer")
    return questions


def measured_knee(client: PoseClient, questions: Sequence[Question]) -> float:
    """Answers a second when 8 callers each ask again as soon as they are answered."""
    good = itertools.cycle([q.image for q in questions if q.answer is not None])

    def ask() -> bool:
        client.infer(next(good))
        return True

    return closed_loop(lambda: ask, _KNEE_CALLERS, _KNEE_S).per_second


def soak(
    server: EmbeddedServer,
    questions: Sequence[Question],
    plan: SoakPlan,
    progress: Callable[[float], None] = lambda seconds: None,
) -> dict[str, Any]:
    """Run the plan, and report outcomes, kills and resources, for JSON.

    Args:
        server: restarts itself when one of its models is killed.
        questions: from `ask_once`.
        plan: duration, rate, kills.
        progress: gets the seconds that have passed, after each request.
    """
    tally = Tally(int(plan.rate * plan.seconds) + 1)
    samples: list[Sample] = []
    kills: list[float] = []
    over = threading.Event()
    started = time.monotonic()
    with PoseClient(f"grpc://{server.grpc_url}", timeout_s=_TIMEOUT_S, retries=PATIENT) as client:
        helpers = [
            threading.Thread(target=_kill, args=(server, plan, over, kills, started)),
            threading.Thread(target=_watch, args=(server, plan, over, samples, started)),
        ]
        for helper in helpers:
            helper.start()
        try:
            sent = _send(client, questions, plan, tally, progress)
        finally:
            over.set()
            for helper in helpers:
                helper.join()
    return _report(plan, sent, tally, samples, kills, time.monotonic() - started)


def _send(
    client: PoseClient,
    questions: Sequence[Question],
    plan: SoakPlan,
    tally: Tally,
    progress: Callable[[float], None],
) -> int:
    """Send requests at the plan's rate, whether or not answers come; the number of requests."""
    places = threading.Semaphore(_MAX_WAITING)
    started = time.monotonic()

    def ask(number: int, question: Question) -> None:
        try:
            tally.enter(number, *_outcome(client, question))
        finally:
            places.release()

    draw = _drawn(questions, plan.hostile_share)
    with ThreadPoolExecutor(_MAX_WAITING, thread_name_prefix="soak") as callers:
        for number in range(len(tally.kinds)):
            due = started + number / plan.rate
            time.sleep(max(0.0, due - time.monotonic()))
            if time.monotonic() - started > plan.seconds:
                return number
            places.acquire()
            callers.submit(ask, number, next(draw))
            progress(time.monotonic() - started)
    return len(tally.kinds)


def _drawn(questions: Sequence[Question], hostile_share: float) -> Iterator[Question]:
    good = [question for question in questions if question.answer is not None]
    hostile = [question for question in questions if question.answer is None]
    draw = random.Random(7)
    while True:
        yield draw.choice(hostile if draw.random() < hostile_share else good)


def _outcome(client: PoseClient, question: Question) -> tuple[Kind, float, str]:
    """The outcome of one request, its milliseconds, and the problem if there is one."""
    started = time.perf_counter()
    kind, problem = Kind.ANSWERED, ""
    try:
        poses = client.infer(question.image)
        if question.answer is None:
            kind, problem = Kind.WRONG, f"{question.name}: a hostile image was answered"
        elif not _same(poses, question.answer):
            kind, problem = Kind.WRONG, f"{question.name}: the answer changed"
    except (RequestRejected, ImageError) as error:
        kind = Kind.REFUSED
        if question.answer is not None:
            kind, problem = Kind.WRONG, f"{question.name}: {error}"
    except PoseError as error:
        kind, problem = Kind.LOST, f"{question.name}: {error}"
    return kind, (time.perf_counter() - started) * 1000, problem


def _same(one: Poses, other: Poses) -> bool:
    return one.keypoints.shape == other.keypoints.shape and bool(
        np.allclose(one.keypoints, other.keypoints, rtol=0, atol=_SAME_PX)
    )


def _kill(
    server: EmbeddedServer,
    plan: SoakPlan,
    over: threading.Event,
    kills: list[float],
    started: float,
) -> None:
    """Kill one Python model after another, while enough load follows to see the recovery."""
    turn = 0
    last = started + plan.seconds - min(_LAST_KILL_S, plan.kill_every_s / 2)
    while not over.wait(plan.kill_every_s) and time.monotonic() < last:
        if processes := server.model_processes():
            names = sorted(processes)
            os.kill(processes[names[turn % len(names)]], signal.SIGKILL)
            kills.append(time.monotonic() - started)
            turn += 1


def _watch(
    server: EmbeddedServer,
    plan: SoakPlan,
    over: threading.Event,
    samples: list[Sample],
    started: float,
) -> None:
    while not over.wait(plan.sample_every_s):
        if sample := take_sample(server, started):
            samples.append(sample)


def _report(
    plan: SoakPlan,
    sent: int,
    tally: Tally,
    samples: Sequence[Sample],
    kills: Sequence[float],
    seconds: float,
) -> dict[str, Any]:
    lost = tally.count(Kind.LOST, sent) + tally.count(Kind.MISSING, sent)
    wrong = tally.count(Kind.WRONG, sent)
    doubled = int((tally.outcomes[:sent] > 1).sum())
    problems = list(tally.problems)
    if lost or wrong or doubled:
        problems.append(
            f"expected {sent} answers, got {lost} lost, {wrong} wrong, {doubled} doubled"
        )
    resources = summary_of(samples) if samples else {}
    growth_judged = seconds >= _SHORTEST_FOR_GROWTH_S
    if not samples:
        problems.append("expected a sample of the running server, got none")
    elif growth_judged:
        problems += growth_in(resources)
    good_ms = tally.latencies_ms[:sent][tally.kinds[:sent] == Kind.ANSWERED]
    p50, p99, longest = np.percentile(good_ms, [50, 99, 100]).tolist() if len(good_ms) else [0] * 3
    return {
        "schema": SCHEMA,
        "passed": not problems,
        "problems": problems,
        "seconds": round(seconds, 1),
        "rate_per_s": round(plan.rate, 2),
        "hostile_share": plan.hostile_share,
        "sent": sent,
        "answered": tally.count(Kind.ANSWERED, sent),
        "hostile_refused": tally.count(Kind.REFUSED, sent),
        "lost": lost,
        "wrong": wrong,
        "doubled": doubled,
        "latency_ms": {"p50": round(p50, 1), "p99": round(p99, 1), "max": round(longest, 1)},
        "kills_at_s": [round(at, 1) for at in kills],
        "samples": len(samples),
        "growth_judged": growth_judged,
        "resources": resources,
        "by_minute": by_minute(samples),
    }
