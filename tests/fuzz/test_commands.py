"""Mutants of every kind of file through every command and option that reads it: one line each."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import file_mutants as mutate
from tests.annotation_walk import ANNOTATION_OPTIONS, BESIDE
from tests.command_walk import commands
from tests.fuzz.file_kinds import placed
from tests.fuzz.questions import READ, cut_at_seams, questions

MUTANTS = int(os.environ.get("FILE_MUTANTS", "200"))  # of each question
LONGEST_S = 20.0  # of processor time, for one mutant
MOST_MIB = 700.0  # for one question, beside what its libraries hold


class Planted(Exception):
    """A fault of a reader."""


QUESTIONS = {str(question): question for question in questions()}
each_question = pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
# Parameters that are written, or no files of others.
OUTPUTS = {
    "output", "output_file", "json_out", "picture", "save_inputs", "save_outputs", "engine_file",
    "timing_cache", "visualize", "results_out", "sheet", "jsonl", "page", "reports",
}  # fmt: skip
NOT_OF_OTHERS = {
    "tools results check root",  # the checkout
    "tools results list root",
    "tools results measure root",
    "tools results measure coco",
    "tools results pages root",
    *(f"tools serve {option}" for option in ("tls_cert", "tls_key", "tls_client_ca")),  # Triton's
    *(f"pose-loadtest {name} images" for name in ("run", "headroom", "result")),  # sent as they are
    "tools compare-quantisers environments",  # a folder of virtual environments
}
# Folders that commands write to; `--resume` reads what an earlier run wrote.
RUNS = {"tools train", "tools retrain", "tools optimize", "tools inference"}


@each_question
def test_a_command_says_one_line_about_a_mutant(kinds, places, tmp_path, monkeypatch, question):
    kind, folder = kinds[question.kind], tmp_path / "in"
    monkeypatch.chdir(tmp_path)
    cut_at_seams(monkeypatch, kind.name)
    right = placed(kind, folder, kind.right)
    line = question.answer(right, folder, places)  # which loads its libraries, too
    assert not line.startswith("exit 2"), line
    writes = True  # who refuses writes nothing
    with little_memory():
        for number, content in mutate.mutants_of(str(question), kind.right, kind.mutant, MUTANTS):
            path, began = placed(kind, folder, content, anew=writes), time.process_time()
            try:
                line = question.answer(path, folder, places)
            except Exception as error:
                raise AssertionError(f"{question}, mutant {number}: {error!r}") from error
            writes = not line or READ in line
            assert time.process_time() - began < LONGEST_S, number


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """That what is inside needs no more than `MOST_MIB`, at any moment."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _peak_mib()
    yield
    assert _peak_mib() - before < MOST_MIB


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@each_question
def test_a_planted_traceback_is_found(kinds, places, tmp_path, monkeypatch, question):
    """What fails when the file is opened comes out of every command."""
    kind, folder = kinds[question.kind], tmp_path / "in"
    monkeypatch.chdir(tmp_path)
    cut_at_seams(monkeypatch, kind.name)
    path = placed(kind, folder, kind.right)
    if kind.name in OPENED_IN_C:
        monkeypatch.setattr(OPENED_IN_C[kind.name], _fail)
    with planted(path), pytest.raises(Planted):
        question.answer(path, folder, places)


# Python does not hear of these files being opened.
OPENED_IN_C = {"table": "pyarrow.parquet.ParquetFile", "video": "av.open"}
_PLANTED: set[str] = set()


def _fail(*arguments: object, **options: object) -> None:
    raise Planted


def _hook(event: str, arguments: tuple) -> None:
    if _PLANTED and event == "open" and str(arguments[0]) in _PLANTED:
        raise Planted


sys.addaudithook(_hook)  # it cannot be removed, and does nothing while nothing is planted


@contextlib.contextmanager
def planted(path: Path) -> Iterator[None]:
    """Opening the file fails as a fault in its reader does."""
    _PLANTED.add(str(path))
    try:
        yield
    finally:
        _PLANTED.clear()


def test_every_option_that_names_a_file_is_asked_about():
    asked = {f"{each.command} {option}" for each in QUESTIONS.values() for option in each.options()}
    named = {
        f"{command} {param.name}"
        for command in commands()
        for param in command.paths()
        if param.name not in OUTPUTS and not (param.name == "results" and str(command) in RUNS)
        if not (str(command) in BESIDE and {*param.opts} & {*ANNOTATION_OPTIONS})
    }
    assert named - NOT_OF_OTHERS - asked == set(), "a question about it is due in QUESTIONS"
