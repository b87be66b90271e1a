"""Every page's records can be measured again by one command, which says how long they took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.pages.measuring import (
    MeasuringError,
    PageCommands,
    measure,
    named,
    page_commands,
)

ROOT = Path(__file__).parents[4]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """One page, whose commands copy a record's text and fail if asked to."""
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "docs/results/commands.toml").write_text(
        """
        [first]
        page = "docs/first.md"
        needs = "a fast machine"
        commands = ["cp {coco}/a docs/results/one.json", "cp {coco}/b docs/results/two.json"]
        [second]
        page = "docs/second.md"
        commands = ["true"]
        """
    )
    for name in "ab":
        (tmp_path / name).write_text(name)
    return tmp_path


def as_record(path: Path, **made: float) -> None:
    fields = "version command commit date machine versions models data seeds repeats noise verdicts"
    path.write_text(json.dumps({"made": dict.fromkeys([*fields.split(), "code"]) | made}))


def test_the_commands_run_in_order_in_the_checkout(checkout):
    page = named(checkout, "first")
    said = list(measure(checkout, page, checkout))

    assert said == [f"cp {checkout}/{name} docs/results/{out}.json" for name, out in _OUTS]
    assert [(checkout / f"docs/results/{out}.json").read_text() for _, out in _OUTS] == ["a", "b"]


_OUTS = (("a", "one"), ("b", "two"))


def test_files_between_commands_have_a_folder_that_is_new_each_time(checkout):
    record = "docs/results/one.json"
    commands = ("mkdir {new}/images", "cp a {new}/images/a", f"cp {{new}}/images/a {record}")
    page = PageCommands("third", "docs/third.md", commands, needs="")

    first, again = (list(measure(checkout, page, checkout)) for _ in range(2))

    assert (checkout / record).read_text() == "a"
    assert first != again
    assert not Path(again[0].split()[1]).parent.exists()


def test_a_command_that_fails_ends_the_rest_and_keeps_what_is_there(checkout):
    (checkout / "b").unlink()
    with pytest.raises(MeasuringError, match=r"two\.json: expected exit code 0, got 1"):
        list(measure(checkout, named(checkout, "first"), checkout))
    assert (checkout / "docs/results/one.json").read_text() == "a"


def test_a_page_that_is_not_there_is_one_line(checkout):
    with pytest.raises(MeasuringError, match="third: expected one of first, second"):
        named(checkout, "third")


def test_how_long_a_page_takes_is_known_when_all_its_records_say(checkout):
    page = named(checkout, "first")
    assert page.records == ["one", "two"]
    assert page.took_s(checkout) is None
    as_record(checkout / "docs/results/one.json", took_s=30.0)
    as_record(checkout / "docs/results/two.json")
    assert page.took_s(checkout) is None
    as_record(checkout / "docs/results/two.json", took_s=60.0)
    assert page.took_s(checkout) == 90.0

    done = CliRunner().invoke(app, ["results", "list", "--root", str(checkout)])
    assert "1.5 min" in done.output
    assert "a fast machine" in done.output


def test_what_measures_the_projects_own_pages_are_commands_that_exist():
    programs = {"tools", "pose-client", "pose-loadtest", "python", "env"}
    for page in page_commands(ROOT):
        assert (ROOT / page.page).is_file()
        assert page.records
        assert {command.split()[0] for command in page.commands} <= programs
