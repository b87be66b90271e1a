"""Every page of help of the client's, the load test's and the tools' commands, at 80 columns."""

import re

import pytest
from typer import rich_utils
from typer.main import get_command
from typer.testing import CliRunner

from bodypose_client.cli import app as client_app
from bodypose_loadtest.cli import app as loadtest_app
from bodypose_tools.cli import app as tools_app

APPS = {"pose-client": client_app, "pose-loadtest": loadtest_app, "tools": tools_app}
PAGES = [
    (name, *command)
    for name, app in APPS.items()
    for command in [(), *((each,) for each in get_command(app).commands)]
]


@pytest.fixture(params=PAGES, ids=" ".join)
def page(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    monkeypatch.setattr(rich_utils, "MAX_WIDTH", 80)
    name, *command = request.param
    shown = CliRunner().invoke(APPS[name], [*command, "--help"])
    assert shown.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.output)


def test_nothing_is_cut_off(page):
    assert max(map(len, page.splitlines())) <= 80
    assert "…" not in page


def test_no_type_is_broken_over_two_lines(page):
    assert not re.findall(r"^│[ *]+--.*<[a-z][a-z|-]*(?=\s|│)", page, re.M)


def test_no_type_is_in_the_words_of_python(page):
    """A flag takes no value, and what may be repeated is no `list[str]`."""
    assert not re.findall(r"<bool>|<list\[.*|<\w+ range>", page)


def test_arguments_are_in_capitals(page):
    names = re.findall(r"[{[]([^]}]+)[]}]", re.search("Usage: .*", page)[0])
    assert all(re.search("[A-Z]", name) for name in names)


def test_there_is_an_example(page):
    assert re.search("Example: (pose-|tools)", page)


def _options():
    for name, app in APPS.items():
        for command, each in get_command(app).commands.items():
            for option in each.params:
                yield f"{name} {command}", option.opts


@pytest.mark.parametrize(("place", "names"), list(_options()))
def test_an_option_has_one_spelling_and_one_letter(place, names):
    long = [name for name in names if name.startswith("--")]
    assert len(long) <= 1, place
    assert len(names) - len(long) <= 1, place
    assert not any("_" in name for name in long)


def _help_texts():
    for name, app in APPS.items():
        for command, each in get_command(app).commands.items():
            for option in each.params:
                yield f"{name} {command} {option.name}", option.help or ""


@pytest.mark.parametrize(("place", "text"), list(_help_texts()))
def test_a_help_text_is_read_alone(place, text):
    assert text, place
    assert text[0].isupper() or text[0] == "`", place
    assert text.endswith("."), place
    assert text.split()[0] not in {"Of", "That", "Them", "Its", "It"}, place
