"""Fuzzes decoding and the models' requests for some minutes and writes what came of it.

    python -m tests.fuzz.run --minutes 30 --out docs/results/fuzz.json

Coverage-guided: atheris sees which branches of pose_runtime and of each model.py an input takes;
the C libraries below are exercised, but not instrumented. Inputs that end the process (an error
that nobody promised, a hang, more than the memory allowed) are kept in `--findings`, and the run
goes on. Then the corpus is replayed without instrumentation, to see whether memory grows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bodypose_tools.repository.build import build_repository
from bodypose_tools.results.record import Measurement
from tests.fuzz import hostile_images
from tests.fuzz.limits import MAX_INPUT_BYTES, SPEC
from tests.tiny_network import write_tiny_onnx

ROOT = Path(__file__).parents[2]
HANG_S = 10
ROUND_S = 300  # then a fresh process: see `target.watched`
_REPLAYS = 60
RSS_LIMIT_MB = 2048
_TARGETS = 5  # of target.py
_STATUS = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/\S+.* rss: (\d+)Mb")


def main() -> int:
    options = _options()
    options.findings.mkdir(parents=True, exist_ok=True)
    measurement = Measurement()
    started = time.monotonic()
    deadline = started + 60 * options.minutes
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tiny_onnx(folder / "tiny.onnx", SPEC)
        build_repository(folder / "tiny.onnx", folder / "repository")
        seeds = _write_seeds(folder / "corpus")
        while (left := int(deadline - time.monotonic())) > 0:
            runs.append(_fuzz(folder, options.findings, min(left, ROUND_S)))
            sys.stdout.write(f"{json.dumps(runs[-1])}\n")
            sys.stdout.flush()
        minutes = (time.monotonic() - started) / 60
        memory_mb = _replay(folder)
    findings = sorted(path.name for path in options.findings.iterdir())
    result = {
        "schema": "bodypose-fuzz/1",
        "minutes": round(minutes, 1),
        "executions": sum(run["executions"] for run in runs),
        "coverage_edges": max(run["coverage_edges"] for run in runs),
        "coverage_features": max(run["coverage_features"] for run in runs),
        "corpus": {"seeds": seeds, "at_the_end": runs[-1]["corpus"]},
        "findings": findings,
        "replay": {
            "executions_each": runs[-1]["corpus_files"],
            "times": len(memory_mb),
            "rss_mb_after_half": memory_mb[len(memory_mb) // 2],
            "rss_mb_in_the_end": memory_mb[-1],
        },
        "limits": {"hang_s": HANG_S, "rss_mb": RSS_LIMIT_MB, "input_bytes": MAX_INPUT_BYTES},
        "targets": ["decode and letterbox", "preprocess", "network", "grouping"],
    }
    measurement.write(
        options.out,
        result,
        repeats={"replays": len(memory_mb)},
        verdicts=[
            {
                "name": "fuzz",
                "rule": "no input ends a process",
                "figure": len(findings),
                "outcome": "missed" if findings else "met",
            }
        ],
    )
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return 1 if findings else 0


def _write_seeds(corpus: Path) -> int:
    """One file for each hostile image that is small enough, for images and for preprocess."""
    corpus.mkdir()
    images = [
        *hostile_images.answered().values(),
        *(data for data, _ in hostile_images.refused().values()),
    ]
    small = [data for data in images if len(data) < MAX_INPUT_BYTES // 2]
    for number, data in enumerate(small):
        (corpus / f"image-{number}").write_bytes(b"\0" + data)
    for target in range(2, _TARGETS):
        for number in range(8):
            content = bytes(range(number, 250)) * (number + 1)
            (corpus / f"request-{target}-{number}").write_bytes(bytes([target]) + content)
    return len(list(corpus.iterdir()))


def _fuzz(folder: Path, findings: Path, seconds: int) -> dict[str, Any]:
    """One run of libFuzzer, until the time is over or it finds something."""
    command = [
        *(sys.executable, "-m", "tests.fuzz.target", folder / "repository", folder / "corpus"),
        *(f"-max_total_time={seconds}", f"-timeout={HANG_S}", f"-rss_limit_mb={RSS_LIMIT_MB}"),
        *(f"-max_len={MAX_INPUT_BYTES}", f"-artifact_prefix={findings}/", "-print_final_stats=1"),
    ]
    environment = {**os.environ, "OPENCV_LOG_LEVEL": "SILENT"}
    log = folder / "log"
    with log.open("w") as output:
        code = subprocess.call(command, stdout=output, stderr=output, cwd=ROOT, env=environment)
    text = log.read_text(errors="replace")
    states = [tuple(map(int, found)) for found in _STATUS.findall(text)]
    if not states and "Test unit written to" not in text:
        raise SystemExit(f"fuzzer: expected it to run, got exit code {code}: {text[-2000:]}")
    states = states or [(0,) * 5]
    executed = re.search(r"stat::number_of_executed_units:\s+(\d+)", text)
    if code:
        sys.stdout.write(text[-3000:])
    return {
        "exit_code": code,
        "executions": int(executed[1]) if executed else states[-1][0],
        "coverage_edges": states[-1][1],
        "coverage_features": states[-1][2],
        "corpus": states[-1][3],
        "corpus_files": len(list((folder / "corpus").iterdir())),
        "instrumented_rss_mb": states[-1][4],
    }


def _replay(folder: Path) -> list[float]:
    """Memory after each replay of the whole corpus."""
    command = [sys.executable, "-m", "tests.fuzz.target", folder / "repository"]
    command += ["--replay", folder / "corpus", str(_REPLAYS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    return [float(line) for line in done.stdout.split()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--findings", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
