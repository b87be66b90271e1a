"""Runs a seeded sample of mutants against the changed modules' own tests: how many are noticed.

    python -m tests.mutants.run --count 500 --seed 1 --jobs 2 --out build/mutants.json
    python -m tests.mutants.run --count 60 --seed 2 --only "tools/*/quantisation/*"

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
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bodypose_tools.results.record import Measurement
from tests.mutants.forked import read_large_libraries, run_pytest
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
SLOWER, LEAST_S = 4, 30.0
IMPORTED = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "-W", IMPORTED)
NOT_SLOW = "not slow and not triton"


def main() -> int:
    options = _options()
    measurement = Measurement()
    texts = {
        file: text
        for file, text in sources(ROOT, CORE).items()
        if not file.endswith(NOT_HERE) and fnmatch(file, options.only)
    }
    every = {file: mutants_of(file, text) for file, text in texts.items()}
    chosen = sample(every, texts, options.count, options.seed)
    _say(f"{len(chosen)} of {sum(map(len, every.values()))} mutants of {len(every)} files")
    read_large_libraries()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(options.jobs, get_context("fork"), _enter_a_copy, (folder,)) as pool,
    ):
        tests = {file: tests_of(file) for file in sorted({m.file for m in chosen})}
        kinds = list(dict.fromkeys(tests.values()))
        limits = dict(zip(kinds, pool.map(_limit, kinds), strict=True))
        judged = list(pool.map(_judge, chosen, [limits[tests[m.file]] for m in chosen]))
    counts = Counter(outcome for outcome, _ in judged)
    noticed = (counts["noticed"] + counts["too slow"]) / max(len(judged) - counts["equivalent"], 1)
    measured = {
        "schema": "bodypose-mutants/1",
        "outcomes": dict(counts),
        "noticed_share": round(noticed, 4),
        "survivors": [described for outcome, described in judged if outcome == "survived"],
    }
    few = counts["equivalent"] <= MAX_EQUIVALENT * len(judged)
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


def tests_of(file: str) -> tuple[str, ...]:
    """The files of tests that are a module's own, below the checkout."""
    path = ROOT / file
    package, folder = next((p, f) for p, f in PLACES.items() if path.is_relative_to(f))
    module = ".".join([package, *path.relative_to(folder).with_suffix("").parts])
    own = mirror(module)
    told = [TESTS / tests for name, tests in lines() if name == module]
    more = [own.parent / name for name in MORE.get(module, "").split()]
    found = [each for each in dict.fromkeys([own, *told, *more]) if each.is_file()]
    if not found:
        raise SystemExit(f"{file}: expected tests of its own, got none; see test_places.py")
    return tuple(each.relative_to(ROOT).as_posix() for each in found)


def _enter_a_copy(folder: str) -> None:
    """Of the checkout's tracked files, and new ones that git does not ignore."""
    copy = Path(folder) / str(os.getpid())
    listed = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.check_output(listed, text=True).splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    os.chdir(copy)


def _limit(tests: Sequence[str]) -> float:
    """Seconds that tests may take; they pass as the code is, or nothing counts."""
    started = time.monotonic()
    code, words = _run(tests, None)
    if code:
        raise SystemExit(f"{' '.join(tests)}: expected to pass, got:\n{words[-2000:]}")
    took = time.monotonic() - started
    _say(f"{took:.1f} s: {' '.join(tests)}")
    return max(LEAST_S, SLOWER * took)


def _judge(mutant: Mutant, limit_s: float) -> tuple[str, dict[str, Any]]:
    """The outcome, and what was changed."""
    place = Path(mutant.file)
    source = place.read_text()
    code = mutant.code(source)
    described = _described(mutant, source, code)
    if described["change"] in tomllib.loads(EQUIVALENT.read_text()).get(mutant.file, {}):
        return "equivalent", described
    try:
        place.write_text(code)
        exit_code, _ = _run(tests_of(mutant.file), limit_s)
    finally:
        place.write_text(source)
    outcome = {None: "too slow", 0: "survived"}.get(exit_code, "noticed")
    _say(f"{outcome}: {mutant.file}:{mutant.line}: {described['change']}")
    return outcome, described


def _run(tests: Sequence[str], limit_s: float | None) -> tuple[int | None, str]:
    return run_pytest(Path.cwd(), [*PYTEST, "-m", NOT_SLOW, *tests], limit_s)


def _described(mutant: Mutant, before: str, after: str) -> dict[str, Any]:
    lines = zip(before.splitlines(), after.splitlines(), strict=False)
    changed = [(b.strip(), a.strip()) for b, a in lines if b != a]
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
    parser.add_argument("--only", metavar="GLOB", default="*", help="files of these names")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "mutants.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
