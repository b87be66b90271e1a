from pathlib import Path

import numpy as np
import pytest

from bodypose_loadtest.groups import by_group
from bodypose_loadtest.images import LoadImage
from bodypose_loadtest.machine import Sample, Sampler, about_others, machine_summary
from bodypose_loadtest.over_time import by_minute, recovery_s


def test_a_soak_is_told_by_the_minute(records):
    rows = [(5.0 + 30 * i, 5.0 + 30 * i, 5.1 + 30 * i, 0, int(i == 3)) for i in range(4)]
    sampler = Sampler(None, [Sample(100 + second, 0, 50 + second, 0) for second in range(120)])

    minutes = by_minute(records(rows), started_s=100, warm_up_s=5, sampler=sampler)

    assert [(row["minute"], row["requests"], row["errors"]) for row in minutes] == [
        (0, 2, 0),
        (1, 2, 1),
    ]
    assert [row["server_mib"] for row in minutes] == [115, 169]


def test_recovery_is_the_last_slow_or_failed_request_after_the_spike(records):
    calm = [(at, at, at + 0.1, 0, 0) for at in range(10)]
    felt = [(20, 20, 21, 0, 0), (21, 21, 21.3, 0, 0), (23, 23, 23.01, 0, 1), (25, 25, 25.1, 0, 0)]

    assert recovery_s([records(calm + felt)], (0, 10), end_s=20) == pytest.approx(3)
    assert recovery_s([records(calm)], (0, 10), end_s=20) == 0


def test_latencies_are_grouped_by_size_and_people(records):
    images = [LoadImage(size, Path(size), 1, size) for size in ("small", "large", "large")]
    rows = [(1, 1, 1.1, 0, 0), (2, 2, 2.2, 1, 0), (3, 3, 3.4, 2, 0), (0, 0, 9, 0, 0)]

    groups = by_group(images, [0, 7, 2], [records(rows)], warm_up_s=0.5)

    found = [(g["kind"], g["group"], g["requests"], g["latency_ms"]["p50"]) for g in groups]
    assert [each[:3] for each in found] == [
        ("size", "small", 1),
        ("size", "large", 2),
        ("people", "no people", 1),
        ("people", "2 to 4 people", 1),
        ("people", "5 and more people", 1),
    ]
    assert [each[3] for each in found] == pytest.approx([100, 300, 100, 400, 200])


def test_cores_and_memory_are_told_apart(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    samples = [
        Sample(at, server_cpu_s=at, server_mib=100 + at, busy_cpu_s=1.8 * at)
        for at in np.arange(0, 8.0)
    ]

    summary = machine_summary(samples, generator_cores=0.1)

    assert summary["server_cores"] == pytest.approx(1)
    assert summary["other_cores"] == pytest.approx(0.7)
    assert about_others(summary) == [
        "other programs used 0.7 cores: the server alone may do better"
    ]
    assert (summary["server_mib_begin"], summary["server_mib_end"]) == (100.5, 106.5)


def test_slow_is_beyond_twice_the_p95_of_before(records):
    calm = [(at, at, at + 0.125, 0, 0) for at in range(10)]

    def recovery(latency_s, before=calm):
        late = [(20.5, 20.5, 20.5 + latency_s, 0, 0), (24, 24, 24.01, 0, 0)]
        return recovery_s([records(before + late)], (0, 10), end_s=20)

    assert [recovery(latency_s) for latency_s in (0.25, 0.251)] == [0, 0.5]
    assert recovery(9.0, before=[]) == 0  # nothing to compare with


def test_the_slowest_recovery_of_the_repeats_counts(records):
    calm = [(at, at, at + 0.1, 0, 0) for at in range(10)]
    parts = [records([*calm, (20 + more, 20 + more, 21, 0, 1)]) for more in (0.25, 0.75, 0.5)]

    assert recovery_s(parts, (0, 10), end_s=20) == 0.75


def test_a_minute_without_answers_or_samples_has_zeros(records):
    sampler = Sampler(None, [])

    assert by_minute(records([]), 0, 0, sampler) == []
    assert by_minute(records([(1, 1, 1.5, 0, 1)]), 0, 0, sampler) == [
        {"minute": 0, "requests": 1, "errors": 1, "p99_ms": 0, "server_mib": 0}
    ]
    (minute,) = by_minute(records([(1, 1, 1.5, 0, 0), (2, 2, 2.25, 0, 1)]), 0, 0, sampler)
    assert minute["p99_ms"] == 500
