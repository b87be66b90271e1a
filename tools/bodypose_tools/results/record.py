"""The record of a measurement: what was measured, and all that is needed to measure it again.

Every file under docs/results is a JSON object of what its command measured, and beside that one
key, `made`, which is alike in all of them:

    version    2; 1: migrated from a time when records said less, so that much is null
    command    as it was typed, files by their name alone
    commit     of the checkout, with "+" when files had changed since; null outside of one
    date       UTC, when the measurement began
    took_s     until the record was written; older records do not say
    machine    cpu, gpu (null: none), instructions, cores, load_before, load_after
    versions   of Python and of the installed packages that can change a number
    models     name and sha256 of each; empty: no model takes part
    data       name and sha256 of each annotations file and folder of images
    seeds      by name
    repeats    how often, and in which order; medians and their spread stand beside each number
    noise      a fixed job's time before, between and after (`machine.Noise`); null: no times
    verdicts   each with name, rule, figure, low and high (95 %) and outcome (`ratios.verdict`)
    code       sha256 of each of our files that took part, by path, cut to 16 digits
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from bodypose_tools.files.artifacts import sha256_of
from bodypose_tools.files.json_records import RecordError, read_record, write_record
from bodypose_tools.files.shipped import CHECKOUT, MODEL_SOURCES

from .machine import Noise, load_average, machine

VERSION: Final = 2
MIGRATED: Final = 1
KEY: Final = "made"
FIELDS: Final = (
    *("version", "command", "commit", "date", "machine", "versions", "models", "data", "seeds"),
    *("repeats", "noise", "verdicts", "code"),
)
_OURS = ("pose_runtime", "bodypose_tools", "bodypose_client", "bodypose_loadtest", "tests")
# They speak, or they write: no number comes from them.
_NOT_CODE = (
    *("__init__.py", "cli.py", "commands.py", "options.py", "settings.py", "conftest.py"),
    *("results/record.py", "pages/check.py", "pages/blocks.py", "pages/measuring.py"),
)
_PACKAGES = (
    *("bodypose-triton", "numpy", "onnx", "onnxruntime", "openvino", "keras", "tensorflow-cpu"),
    *("jax", "nvidia-pytriton", "tritonclient", "opencv-python-headless", "simplejpeg"),
    *("pycocotools", "scikit-image", "locust", "gevent", "atheris", "tensorrt", "tensorrt-rtx"),
)
_DIGITS = 16  # of a code file's sha256


@dataclass(slots=True)
class Measurement:
    """One measurement from its begin on; `write` ends it.

    Make it before the first number is taken: it holds the date, the load and the noise of then.
    """

    timed: bool = False  # whether times are measured, so that noise matters
    noise: Noise = field(default_factory=Noise)
    _date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    _load_before: float = field(default_factory=load_average)
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.between()

    def between(self) -> None:
        """Ask for the machine's noise once more, in the course of a measurement of times."""
        if self.timed:
            self.noise.probe()

    def record(
        self,
        measured: Mapping[str, Any],
        *,
        models: Iterable[Path | Mapping[str, Any]] = (),
        data: Iterable[Path] = (),
        seeds: Mapping[str, int] | None = None,
        repeats: Mapping[str, Any] | None = None,
        verdicts: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """What was measured, with what it was made by.

        Args:
            measured: the command's own keys.
            models: files, or name and sha256 of what a server says it serves.
            data: annotation files, and folders of images (hashed by names and contents).
            seeds: by name.
            repeats: how often and in which order, such as `{"rounds": 40, "order": "in turn"}`.
            verdicts: of `ratios.verdict`.
        """
        self.between()
        made = {
            "version": VERSION,
            "command": _command(),
            "commit": _commit(),
            "date": self._date,
            "took_s": round(time.monotonic() - self._began, 1),
            "machine": {
                **machine(),
                "load_before": self._load_before,
                "load_after": load_average(),
            },
            "versions": _versions(),
            "models": [_named(model) for model in models],
            "data": [{"name": path.name, "sha256": digest(path)} for path in data],
            "seeds": dict(seeds or {}),
            "repeats": dict(repeats) if repeats else None,
            "noise": self.noise.to_json() if self.timed else None,
            "verdicts": [dict(verdict) for verdict in verdicts],
            "code": code_taking_part(),
        }
        return {**measured, KEY: made}

    def write(self, path: Path, measured: Mapping[str, Any], **made: Any) -> dict[str, Any]:
        """Write the `record` of these arguments to `path`; the record.

        Raises:
            DiskError: `path` cannot be written.
        """
        record = self.record(measured, **made)
        write_record(path, record)
        return record


def read_made(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record and its `made`.

    Raises:
        RecordError: the file is no record of a measurement.
    """
    record = read_record(path, {KEY: dict})
    made: dict[str, Any] = record[KEY]
    if missing := [name for name in FIELDS if name not in made]:
        raise RecordError(f"{path}: expected `{KEY}` with {missing[0]}, got none; measure it again")
    return record, made


def digest(path: Path) -> str:
    """sha256 of a file, or of a folder's file names and their contents, in the names' order."""
    if path.is_file():
        return sha256_of(path)
    total = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        total.update(f"{file.relative_to(path)}\0{sha256_of(file)}\n".encode())
    return total.hexdigest()


def code_taking_part() -> dict[str, str]:
    """Our files that are loaded, and with them what a server of ours runs: path -> hash."""
    loaded = [
        Path(file)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in _OURS and (file := getattr(module, "__file__", None))
    ]
    if "bodypose_tools.server.embedded" in sys.modules:
        loaded += MODEL_SOURCES.rglob("model.py")
    return {
        place: code_hash(file)
        for file in sorted(loaded)
        if (place := place_of(file)) is not None and not place.endswith(_NOT_CODE)
    }


def code_hash(file: Path) -> str:
    return sha256_of(file)[:_DIGITS]


def place_of(file: Path) -> str | None:
    """Path below the checkout; None: not a file of it."""
    try:
        return file.resolve().relative_to(CHECKOUT.resolve()).as_posix()
    except ValueError:
        return None


def _named(model: Path | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(model, Path):
        return {"name": model.name, "sha256": sha256_of(model)}
    return {"name": model.get("name"), "sha256": model.get("sha256")}


def _command() -> str:
    """As it was typed, but with no folder of this machine: files by their names."""
    program, *rest = sys.argv
    if program.endswith(".py") and (place := place_of(Path(program))):
        start = ["python", "-m", place.removesuffix(".py").replace("/", ".")]
    else:
        start = [Path(program).name]
    return shlex.join([*start, *(_without_folder(word) for word in rest)])


def _without_folder(word: str) -> str:
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}{Path(value).name}" if Path(value).is_absolute() else word


def _commit() -> str | None:
    if not (CHECKOUT / ".git").exists():
        return None
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}{'+' if changed else ''}" if commit else None


def _git(*words: str) -> str:
    try:
        asked = subprocess.run(
            ["git", "-C", str(CHECKOUT), *words], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
