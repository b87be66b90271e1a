"""The check of records and pages: what is of another model, of older code, or of no record.

A number of a page counts as measured when it has a decimal point or a unit (%, ms, images/s, MiB,
...), outside of code, links and generated blocks. It is held when a record that the page names, or
makes a block from, has a value that reads the same at as many digits. Decisions and the logs behind
them (`LOGS`) say what was found on the day, whatever the records say now, and are not looked at.
What is known to be wrong stands in `docs/results/exceptions.toml`, each with its reason; an
exception for a record that needs none is an error, for a number a warning. There, too, stand
changes of code on which no figure depends, each for two hashes of one file, so that the next change
of the file is found.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bodypose_tools.files.artifacts import record_path
from bodypose_tools.files.json_records import RecordError, read_record
from bodypose_tools.files.shipped import MODELS
from bodypose_tools.results.record import code_hash, read_made

from .blocks import Records, without_blocks, written_pages
from .measuring import COMMANDS, page_commands

LOGS: Final = ("docs/decisions.md", "docs/notes/decisions.md", "docs/notes/int8.md")
EXCEPTIONS: Final = "exceptions.toml"
_UNITS = r"%|ms\b|images/s|answers/s|requests/s|MiB\b|MB\b|GB\b|GMAC\b|times as fast"
_BEFORE = r"(?<![\w.,/@:-])[+-]?"
_NUMBER = re.compile(rf"{_BEFORE}\d[\d,]*\.\d+(?!\w|\.\d)|{_BEFORE}\d[\d,]*(?= ?(?:{_UNITS}))")
# Versions, "Python 3.11 to 3.13" for example.
_PRODUCTS = r"Python|numpy|tritonserver|Triton|TensorRT|OpenVINO|OpenCV|Keras|JAX|CUDA|atheris"
_VERSIONS = rf"\b(?:{_PRODUCTS})(?:,? (?:from |to |or |and |before )?\d+(?:\.\d+)+)+"
_NOT_PROSE = (r"```.*?```", r"^    .*$", r"`[^`\n]*`", r"\]\([^)]*\)", r"<[^>\n]*>", _VERSIONS)
_SCALES = (1, 100, 1e-3, 1e-6, 1e-9)  # a share as per cent; thousands, millions, billions

Change = tuple[str, str, str]  # file, its hash in a record, its hash now


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: about a record or a page. `is_error` False: a warning."""

    about: str
    text: str
    is_error: bool

    def __str__(self) -> str:
        return f"{'error' if self.is_error else 'warning'}: {self.about}: {self.text}"


def findings(root: Path, judges_code: bool = False) -> list[Finding]:
    """Everything that does not hold in a checkout.

    Args:
        root: of the checkout.
        judges_code: whether a record of older code is an error. Never of a GPU, which few have, and
            of what no command measures again, an experiment that stands in the exceptions.

    Raises:
        RecordError: a record has no `made`.
    """
    exceptions = tomllib.loads((root / "docs/results" / EXCEPTIONS).read_text())
    return [
        *_record_findings(root, exceptions, judges_code),
        *_block_findings(root),
        *_number_findings(root, exceptions["numbers"]),
    ]


def _record_findings(
    root: Path, exceptions: Mapping[str, Any], judges_code: bool
) -> Iterator[Finding]:
    known: Mapping[str, str] = exceptions["records"]
    harmless = {(each["file"], each["from"], each["to"]) for each in exceptions.get("harmless", ())}
    needed: set[Change] = set()
    shipped = shipped_sha256()
    measured = {name for page in page_commands(root) for name in page.records}
    for path in sorted((root / "docs/results").glob("*.json")):
        _, made = read_made(path)
        of_another = not _is_shipped(made["models"], shipped)
        on_gpu = bool((made["machine"] or {}).get("gpu"))
        if of_another and path.name not in known:
            yield Finding(
                path.name,
                f"expected a measurement of a shipped model, got one of {_named(made['models'])};"
                f" measure again, or say in {EXCEPTIONS} why not",
                is_error=not on_gpu,
            )
        if not of_another and path.name in known:
            yield Finding(path.name, f"needs no exception in {EXCEPTIONS}", is_error=True)
        if path.stem not in measured and path.name not in known:
            yield Finding(
                path.name,
                f"expected a command that measures it in {COMMANDS}, got none",
                is_error=True,
            )
        changes = changed_code(root, made["code"] or {})
        needed |= harmless & changes
        older = "does not say which code it is of" if made["code"] is None else ""
        if older := older or _in_words(changes - harmless):
            again = path.stem in measured and not on_gpu
            yield Finding(path.name, older, is_error=judges_code and again)
    for place, _, _ in sorted(harmless - needed):
        yield Finding(place, f"no record needs this change in {EXCEPTIONS}", is_error=True)
    for name in sorted(set(known) - {path.name for path in (root / "docs/results").glob("*.json")}):
        yield Finding(name, f"there is no such record; remove it from {EXCEPTIONS}", is_error=True)


def shipped_sha256() -> set[str]:
    """Of the models that the package has."""
    return {
        str(read_record(record_path(file), {"sha256": str})["sha256"])
        for file in MODELS.iterdir()
        if record_path(file).is_file()
    }


def _is_shipped(models: list[Mapping[str, Any]] | None, shipped: set[str]) -> bool:
    """Whether a record is of a shipped model, or of none at all; None: it does not say."""
    return models is not None and (not models or any(m["sha256"] in shipped for m in models))


def _named(models: list[Mapping[str, Any]] | None) -> str:
    if models is None:
        return "a model that it does not name"
    return ", ".join(f"{m['name']} ({(m['sha256'] or 'unknown')[:12]})" for m in models[:3])


def changed_code(root: Path, code: Mapping[str, str]) -> set[Change]:
    """Files that are not as a record has them: place, hash in the record, hash now ("": gone)."""
    now = {place: code_hash(root / place) if (root / place).is_file() else "" for place in code}
    return {(place, known, now[place]) for place, known in code.items() if now[place] != known}


def _in_words(changes: set[Change]) -> str:
    """Of a record's code; empty when every file is as it was."""
    if not changes:
        return ""
    places = sorted(place for place, _, _ in changes)
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return f"its code has changed since: {', '.join(places[:3])}{more}"


def _block_findings(root: Path) -> Iterator[Finding]:
    for page, text in written_pages(root, Records(root / "docs/results")):
        if page.read_text() != text:
            yield Finding(
                page.relative_to(root).as_posix(),
                "expected its generated blocks as the records have them, got others; run `tools"
                " results pages`",
                is_error=True,
            )


def _number_findings(root: Path, known: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """`known`: page -> reason -> numbers with blanks between."""
    pages = [root / "README.md", root / "MODEL_CARD.md", *sorted((root / "docs").rglob("*.md"))]
    for path in pages:
        page, text = path.relative_to(root).as_posix(), path.read_text()
        if page in LOGS:
            continue
        values = _values_named(root, text)
        strays = [n for n in numbers_in(without_blocks(page, text)) if not is_held(n, values)]
        allowed = {n for numbers in known.get(page, {}).values() for n in numbers.split()}
        if new := sorted(set(strays) - allowed):
            yield Finding(
                page,
                f"expected numbers that a record named on the page holds, got {', '.join(new[:8])};"
                f" take them from a block, or say in {EXCEPTIONS} why not",
                is_error=True,
            )
        if gone := sorted(allowed - set(strays)):
            yield Finding(
                page,
                f"needs no exceptions for {', '.join(gone[:8])} in {EXCEPTIONS}",
                is_error=False,
            )


def numbers_in(text: str) -> list[str]:
    """The measured numbers of a page without its blocks, as they are written."""
    for pattern in _NOT_PROSE:
        text = re.sub(pattern, " ", text, flags=re.S if "```" in pattern else re.M)
    return _NUMBER.findall(text)


def is_held(number: str, values: list[float]) -> bool:
    """Whether one of the values reads like a number at its digits."""
    digits = len(number.partition(".")[2])
    wanted = abs(float(number.replace(",", "")))
    half = 0.5 * 10.0**-digits
    return any(
        abs(abs(value) * scale - wanted) <= half * (1 + 1e-9)
        for value in values
        for scale in _SCALES
    )


def _values_named(root: Path, text: str) -> list[float]:
    values: list[float] = []
    for path in (root / "docs/results").glob("*.json"):
        if re.search(rf"\b{re.escape(path.name)}\b", text):
            try:
                values += _numbers_of(read_made(path)[0])
            except RecordError:
                continue
    return values


def _numbers_of(value: Any) -> Iterator[float]:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield float(value)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _numbers_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from _numbers_of(each)
