"""The checkout's records and pages hold, and each kind of fault in a copy of them is found."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from bodypose_tools.pages.check import changed_code, findings, is_held, numbers_in
from bodypose_tools.results.record import code_hash

ROOT = Path(__file__).parents[4]


AP = f"{json.loads((ROOT / 'docs/results/val-onnx.json').read_text())['metrics']['AP']:.3f}"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The pages and records, and the files whose changes are let pass, to be broken."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    exceptions = tomllib.loads((ROOT / "docs/results/exceptions.toml").read_text())
    for place in {each["file"] for each in exceptions.get("harmless", ())}:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, tmp_path / place)
    for page in ("README.md", "MODEL_CARD.md"):
        shutil.copy(ROOT / page, tmp_path)
    return tmp_path


def errors(root: Path) -> list[str]:
    return [str(finding) for finding in findings(root) if finding.is_error]


@pytest.fixture(scope="module")
def before() -> list[str]:
    """What does not hold in the checkout itself: nothing, as the first test says."""
    return errors(ROOT)


@pytest.fixture
def new_errors(checkout, before) -> Callable[[], list[str]]:
    return lambda: [error for error in errors(checkout) if error not in before]


def test_every_record_and_every_number_of_a_page_holds(before):
    assert before == []


def test_a_number_of_no_record_is_found_and_one_of_a_record_is_not(checkout, new_errors):
    page = checkout / "README.md"
    page.write_text(page.read_text() + f"\nIt has AP {AP} and finds 97.77 % of the people.\n")
    (error,) = new_errors()
    assert "README.md: expected numbers that a record named on the page holds, got 97.77" in error


def test_a_number_of_a_record_that_the_page_does_not_name_is_found(checkout, new_errors):
    page = checkout / "docs" / "code.md"
    page.write_text(page.read_text() + f"\nAP {AP}.\n")
    assert [AP in error for error in new_errors()] == [True]


def test_a_table_that_was_changed_by_hand_is_found(checkout, new_errors):
    page = checkout / "README.md"
    page.write_text(page.read_text().replace(f"| ONNX | {AP} |", "| ONNX | 0.993 |"))
    (error,) = new_errors()
    assert "run `tools results pages`" in error


def edit(checkout: Path, name: str, **made) -> None:
    path = checkout / "docs" / "results" / name
    record = json.loads(path.read_text())
    record["made"] |= made
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("models", [None, [{"name": "m.onnx", "sha256": "ab" * 32}]])
def test_a_record_of_another_model_is_found_and_of_a_gpu_is_a_warning(checkout, new_errors, models):
    edit(checkout, "val-onnx.json", models=models)
    (error,) = new_errors()
    assert error.startswith("error: val-onnx.json: expected a measurement of a shipped model")
    edit(checkout, "val-onnx.json", models=models, machine={"gpu": "NVIDIA H200"})
    assert new_errors() == []
    assert any("val-onnx.json: expected a measurement" in str(each) for each in findings(checkout))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "does not say which code it is of"),
        ({"gone.py": "0"}, "its code has changed since: gone.py"),
    ],
)
def test_older_code_is_an_error_where_it_is_asked_for(checkout, code, said):
    def found() -> set[str]:
        return {str(each) for each in findings(checkout, judges_code=True) if each.is_error}

    before = found()
    edit(checkout, "prune.json", code=code)  # an experiment
    edit(checkout, "val-onnx.json", code=code, machine={"gpu": "NVIDIA H200"})
    assert found() - before == set()
    edit(checkout, "val-onnx.json", code=code, machine=None)
    (error,) = (each for each in found() if "val-onnx.json" in each)
    assert error == f"error: val-onnx.json: {said}"
    assert not any("val-onnx.json" in each for each in errors(checkout))


def test_an_exception_that_is_not_needed_is_found(checkout, new_errors):
    path = checkout / "docs" / "results" / "exceptions.toml"
    text = path.read_text().replace(
        "[records]", '[records]\n"val-onnx.json" = "why"\n"x.json" = ""'
    )
    path.write_text(text + '\n[numbers."docs/code.md"]\n"old" = "12.5"\n')
    assert len(new_errors()) == 2
    assert any("needs no exceptions for 12.5" in str(each) for each in findings(checkout))


def test_code_that_has_changed_is_named(tmp_path):
    for name in ("same.py", "other.py"):
        (tmp_path / name).write_text(name)
    known = {name: code_hash(tmp_path / name) for name in ("same.py", "other.py")}
    assert changed_code(tmp_path, known) == set()
    (tmp_path / "other.py").write_text("changed")
    assert changed_code(tmp_path, known | {"gone.py": "0"}) == {
        ("other.py", known["other.py"], code_hash(tmp_path / "other.py")),
        ("gone.py", "0", ""),
    }


def test_a_change_without_consequences_is_let_pass_and_the_next_one_is_not(checkout):
    place, style = "docs/site.css", checkout / "docs" / "site.css"
    edit(checkout, "val-onnx.json", code={place: "before"}, machine=None)
    path = checkout / "docs" / "results" / "exceptions.toml"
    path.write_text(
        f'{path.read_text()}\n[[harmless]]\nfile = "{place}"\nfrom = "before"\n'
        f'to = "{code_hash(style)}"\nwhy = "words"\n'
    )

    def about(name: str) -> list[str]:
        return [str(each) for each in findings(checkout) if each.about == name]

    assert (about("val-onnx.json"), about(place)) == ([], [])
    style.write_text(style.read_text() + "\n")
    (line,) = about("val-onnx.json")
    assert line == f"warning: val-onnx.json: its code has changed since: {place}"
    assert about(place) == [f"error: {place}: no record needs this change in exceptions.toml"]


@pytest.mark.parametrize(
    ("number", "held"),
    [
        ("0.383", True),
        ("38.3", True),  # per cent
        ("0.384", False),
        ("0.3828", True),
        ("1,234", True),
        ("1.2", True),  # thousands
        ("-0.38", True),  # the sign is the sentence's
    ],
)
def test_a_number_is_held_when_a_value_reads_like_it(number, held):
    assert is_held(number, [0.38277, 1234.0]) == held


def test_numbers_of_prose_are_those_with_a_point_or_a_unit():
    text = (
        "AP 0.383 at 17 images/s with 2 cores, 4.7 GMAC, `--share 0.35`, Python 3.11 or 3.12,"
        " version 1.2.3,"
        " [a link](v0.5.md), 45 % of 1,234.5 ms.\n    indented 9.9\n```\ncode 8.8\n```\n"
    )
    assert numbers_in(text) == ["0.383", "17", "4.7", "45", "1,234.5"]
