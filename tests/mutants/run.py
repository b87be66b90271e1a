"""Runs a seeded sample of mutants against the changed modules' own tests: how many are noticed.

    python -m tests.mutants.run --count 500 --seed 1 --jobs 2 --out build/mutants.json

Each mutant is made in a copy of the checkout. Its tests are those that `tests/unit/test_places.py`
knows for its module, without slow ones. They end with the first failure; a mutant that makes them
take four times as long counts as noticed. Exit code 1 when fewer than 90 % are noticed, or more
than 5 % are called equivalent in `tests/mutants/equivalent.toml`, each there with its reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

from bodypose_tools.results.record import Measurement
from tests.mutants.sample import Mutant, mutants_of, sample, sources
from tests.unit.test_imports import PLACES
from tests.unit.test_places import TESTS, lines, mirror

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
CORE = (
    "pose_runtime/*.py",
    *(f"tools/bodypose_tools/networks/{name}.py" for name in ("decoding", "centres", "fields")),
    "tools/bodypose_tools/data/labels.py",
    "tools/bodypose_tools/pruning/[!l]*.py",  # the loop is training
    "tools/bodypose_tools/quantisation/*.py",
    "tools/bodypose_tools/repository/check.py",
    "tools/bodypose_tools/results/ratios.py",
    "client/bodypose_client/scoring/*.py",
    "client/bodypose_client/video/[st]*.py",  # smoothing, tracking
    "client/bodypose_client/formats.py",
    *(f"loadtest/bodypose_loadtest/{name}.py" for name in ("step_result", "knee", "slo")),
    *(f"loadtest/bodypose_loadtest/{name}.py" for name in ("summary", "comparison", "over_time")),
)
# These need a GPU, or are another process of a running server.
NOT_HERE = ("cuda_network.py", "onnx_in_torch.py", "openvino_network.py")
# More tests that are a module's own.
MORE = {
    "pose_runtime.images": "test_images_hostile.py",
    "pose_runtime.image_headers": "test_images.py test_images_hostile.py",
    "pose_runtime.png_chunks": "test_images_hostile.py",
}
MIN_NOTICED, MAX_EQUIVALENT = 0.9, 0.05
SLOWER, LEAST_S = 4, 60.0
NOT_SLOW = "not slow and not triton"


def main() -> int:
    options = _options()
    measurement = Measurement()
    texts = {
        file: text for file, text in sources(ROOT, CORE).items() if not file.endswith(NOT_HERE)
    }
    every = {file: mutants_of(file, text) for file, text in texts.items()}
    chosen = sample(every, texts, options.count, options.seed)
    _say(f"{len(chosen)} of {sum(map(len, every.values()))} mutants of {len(every)} files")
    equivalent = tomllib.loads(EQUIVALENT.read_text())
    with tempfile.TemporaryDirectory() as folder:
        copies: Queue[Path] = Queue()
        for number in range(options.jobs):
            copies.put(_copy(Path(folder) / str(number)))
        limits = _limits({m.file for m in chosen}, copies)
        with ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(
                pool.map(lambda m: _judge(m, texts, copies, limits, equivalent), chosen)
            )
    counts = Counter(outcomes)
    judged = len(outcomes) - counts["equivalent"]
    noticed = (counts["noticed"] + counts["too slow"]) / max(judged, 1)
    measured = {
        "schema": "bodypose-mutants/1",
        "outcomes": dict(counts),
        "noticed_share": round(noticed, 4),
        "survivors": [
            _described(mutant, texts)
            for mutant, outcome in zip(chosen, outcomes, strict=True)
            if outcome == "survived"
        ],
    }
    few = counts["equivalent"] <= MAX_EQUIVALENT * len(outcomes)
    passed = noticed >= MIN_NOTICED and few
    rule = f">= {MIN_NOTICED} noticed, <= {MAX_EQUIVALENT} equivalent"
    verdict = {"name": "mutants", "rule": rule, "figure": round(noticed, 4)}
    measurement.write(
        options.out,
        measured,
        seeds={"sample": options.seed},
        verdicts=[verdict | {"outcome": "met" if passed else "missed"}],
    )
    _say(f"{options.out}  {noticed:.1%} noticed, {dict(counts)}")
    return 0 if passed else 1


def tests_of(file: str) -> list[str]:
    """The files of tests that are a module's own, below the checkout."""
    path = ROOT / file
    package, folder = next((p, f) for p, f in PLACES.items() if path.is_relative_to(f))
    module = ".".join([package, *path.relative_to(folder).with_suffix("").parts])
    own = mirror(module)
    told = [TESTS / tests for name, tests in lines() if name == module]
    more = [own.parent / name for name in MORE.get(module, "").split()]
    found = [each for each in dict.fromkeys([own, *told, *more]) if each.is_file()]
    return [each.relative_to(ROOT).as_posix() for each in found]


def _copy(folder: Path) -> Path:
    """The checkout's tracked files, and new ones that git does not ignore."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.check_output(listed, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _limits(files: set[str], copies: Queue[Path]) -> dict[str, float]:
    """Seconds that the tests of each file may take; they pass as the code is, or nothing counts."""
    limits, known = {}, {}
    copy = copies.get()
    for file in sorted(files):
        tests = tuple(tests_of(file))
        if not tests:
            raise SystemExit(f"{file}: expected tests of its own, got none; see test_places.py")
        if tests not in known:
            started = time.monotonic()
            code, text = _run(copy, tests, None)
            if code:
                raise SystemExit(f"{file}: expected its tests to pass, got:\n{text[-2000:]}")
            known[tests] = max(LEAST_S, SLOWER * (time.monotonic() - started))
        limits[file] = known[tests]
    copies.put(copy)
    return limits


def _judge(
    mutant: Mutant,
    texts: dict[str, str],
    copies: Queue[Path],
    limits: dict[str, float],
    equivalent: dict[str, Any],
) -> str:
    described = _described(mutant, texts)
    if described["change"] in equivalent.get(mutant.file, {}):
        return "equivalent"
    copy = copies.get()
    try:
        (copy / mutant.file).write_text(mutant.code(texts[mutant.file]))
        code, _ = _run(copy, tuple(tests_of(mutant.file)), limits[mutant.file])
    finally:
        (copy / mutant.file).write_text(texts[mutant.file])
        copies.put(copy)
    outcome = {None: "too slow", 0: "survived"}.get(code, "noticed")
    _say(f"{outcome}: {mutant.file}:{mutant.line}: {described['change']}")
    return outcome


def _run(copy: Path, tests: tuple[str, ...], limit_s: float | None) -> tuple[int | None, str]:
    """Exit code (None: over the limit) and words of pytest in a copy."""
    paths = [copy, *(copy / name for name in ("tools", "client", "loadtest"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, "-m", NOT_SLOW, *tests],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout + done.stderr


def _described(mutant: Mutant, texts: dict[str, str]) -> dict[str, Any]:
    source = texts[mutant.file]
    before, after = source.splitlines(), mutant.code(source).splitlines()
    changed = [(b.strip(), a.strip()) for b, a in zip(before, after, strict=False) if b != a]
    old, new = changed[0] if changed else ("", "")
    return {"file": mutant.file, "line": mutant.line, "change": f"{old} -> {new}"}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500, help="mutants, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="at once, each in a copy")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
