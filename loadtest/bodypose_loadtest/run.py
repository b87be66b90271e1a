"""One load test from plan to report: server, generators, steps, verdict."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from .groups import by_group, people_in
from .images import in_several_sizes, load_images
from .knee import knee_is_settled
from .machine import Sampler, about_others, environment, machine_summary
from .orders import Setting
from .over_time import by_minute, recovery_s
from .plan import LoadTestPlan, Target, target_of
from .records import Records
from .report import SCHEMA, Outcome
from .scenarios import Scenario, Stretch, stretches
from .server_probe import Probe, counters_at, server_split
from .step_result import StepResult, measure_step
from .summary import summarise
from .verdict import knee_found, verdict_on
from .workers import LEAD_S, Workers, generator_processes

_MOST_CONNECTIONS = 4096


def run_load_test(plan: LoadTestPlan, say: Callable[[str], None]) -> Outcome:
    """Start what is needed, run every step, and judge.

    Raises:
        LoadTestError: no server, no generator, or options that do not fit.
        ClientError: nobody answers at the plan's URL.
    """
    if not plan.url:
        say("starting tritonserver on loopback")
    with target_of(plan) as target:
        return run_on(target, plan, say)


def run_on(target: Target, plan: LoadTestPlan, say: Callable[[str], None]) -> Outcome:
    """`run_load_test` on a server that is there already."""
    with tempfile.TemporaryDirectory(prefix="pose-load-images-") as folder:
        images = load_images(plan.images, Path(folder), plan.seed)
        people: list[int] = []
        if plan.scenario is Scenario.MIXED:
            images = in_several_sizes(images, Path(folder))
            people = people_in(target, images)
        facts = Probe(target.address, target.access).facts()
        setting = Setting(
            str(target.address),
            target.access,
            tuple(str(image.path) for image in images),
            tuple(image.weight for image in images),
            plan.timeout_s,
            _MOST_CONNECTIONS,
        )
        with (
            generator_processes(setting, plan.processes) as workers,
            Sampler(target.pid).watching() as sampler,
        ):
            run = _Run(plan, target, workers, sampler, say)
            run.all_stretches()
    knee = knee_found(plan.scenario, run.steps)
    report = {
        "schema": SCHEMA,
        "settings": plan.to_json(),
        "slo": dict(plan.slo.bounds),
        "environment": environment(),
        "model": facts.to_json(),
        "steps": run.steps,
        "knee": knee,
        **run.over_time(),
        "verdict": verdict_on(plan.scenario, plan.slo, run.steps, knee),
    }
    if plan.scenario is Scenario.MIXED:
        parts = [records for _, _, records in run.raw]
        report["groups"] = by_group(images, people, parts, plan.warm_up_s)
    return Outcome(report, run.raw, [image.name for image in images])


class _Run:
    """The steps as they are measured."""

    def __init__(
        self,
        plan: LoadTestPlan,
        target: Target,
        workers: Workers,
        sampler: Sampler,
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._target, self._workers = plan, target, workers
        self._sampler, self._say = sampler, say
        self._probe = Probe(target.address, target.access)
        self.steps: list[dict[str, Any]] = []
        self.raw: list[tuple[str, int, Records]] = []
        self._started_s: list[float] = []

    def all_stretches(self) -> None:
        plan = self._plan
        for stretch in stretches(plan.scenario, plan.load, plan.duration_s, plan.warm_up_s):
            repeats = [self._one_stretch(stretch, repeat) for repeat in range(plan.repeats)]
            for results in zip(*repeats, strict=True):
                summary = summarise(results)
                self.steps.append(summary)
                self._say(_line(summary))
            if plan.scenario is Scenario.STEP and knee_is_settled(self.steps):
                return

    def _one_stretch(self, stretch: Stretch, repeat: int) -> list[StepResult]:
        start_at = time.monotonic() + LEAD_S
        edges = [start_at + stretch.warm_up_s]
        edges += [start_at + end for _, _, end in stretch.windows()]
        with counters_at(self._probe, edges) as counted:
            done = self._workers.run(stretch, start_at, self._plan.seed + repeat)
        self.raw.append((stretch.steps[0].name, repeat, done.records))
        self._started_s.append(start_at)
        results = []
        looks = zip(stretch.windows(), pairwise(counted), strict=True)
        for (step, begin, end), (before, after) in looks:
            result = measure_step(
                step,
                stretch.loop,
                (begin, end),
                done.records,
                done.busiest_cores,
                self._plan.slo.latency_ms,
            )
            samples = self._sampler.between(start_at + begin, start_at + end)
            machine = machine_summary(samples, done.all_cores)
            if self._target.pid is None and self._target.address.is_loopback:
                machine.pop("other_cores", None)  # the server is one of these programs
            split = server_split(before, after, self._target.address.model)
            notes = (*result.notes, *about_others(machine))
            results.append(replace(result, server=split, machine=machine, notes=notes))
        return results

    def over_time(self) -> dict[str, Any]:
        """What only some scenarios have: a soak's minutes, a spike's recovery."""
        plan = self._plan
        parts = [records for _, _, records in self.raw]
        if plan.scenario is Scenario.SOAK:
            repeats = zip(parts, self._started_s, strict=True)
            minutes = [by_minute(*each, plan.warm_up_s, self._sampler) for each in repeats]
            return {"timeline": [minute for repeat in minutes for minute in repeat]}
        if plan.scenario is Scenario.SPIKE:
            third = plan.duration_s / 3
            begin = plan.warm_up_s + third
            return {"recovery_s": recovery_s(parts, (plan.warm_up_s, begin), begin + third)}
        return {}


def _line(step: dict[str, Any]) -> str:
    p50, p99 = step["latency_ms"]["p50"], step["latency_ms"]["p99"]
    times = "nothing succeeded" if p50 is None else f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    line = f"{step['name']}: {step['throughput']:.1f}/s, {times}, errors {step['error_share']:.2%}"
    return f"{line}  INVALID: {'; '.join(step['invalid'])}" if step["invalid"] else line
