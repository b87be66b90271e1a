"""What the documents say is what the repository holds."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from bodypose_client.cli import app as client_app
from bodypose_loadtest.cli import app as loadtest_app
from bodypose_tools.cli import app as tools_app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text()):
        link = next(filter(None, target))
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_served_results_are_of_the_shipped_model():
    shipped = json.loads((ROOT / "tools/bodypose_tools/models/bodypose-s.onnx.json").read_text())[
        "sha256"
    ]
    for name in ("val-onnx", "val-server-grpc", "val-server-http"):
        assert result(name)["model"]["sha256"] == shipped, f"{name}.json is of another model"


def result(name: str) -> Any:
    return json.loads((ROOT / f"docs/results/{name}.json").read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_documents_exist(page):
    commands = {
        "tools": set(get_command(tools_app).commands),
        "pose-client": set(get_command(client_app).commands),
        "pose-loadtest": set(get_command(loadtest_app).commands),
    }
    for program, command in re.findall(
        r"^(?: {4})?(tools|pose-client|pose-loadtest) ([a-z-]+)", page.read_text(), re.M
    ):
        assert command in commands[program], f"{page.name}: {program} {command}"


def test_every_decision_has_its_row_of_numbers_in_the_log_and_the_other_way_round():
    said = re.findall(r"^(?:\* (.*)\.|## (.*))$", (ROOT / "docs/decisions.md").read_text(), re.M)
    log = re.findall(
        r"^(?:\| (?!decision \|)(.*?) \| .* \| 20\d\d-\d\d-\d\d \||## (.*))$",
        (ROOT / "docs/notes/decisions.md").read_text(),
        re.M,
    )
    assert len(said) > 60
    assert said == log


@pytest.mark.parametrize("page", ["serve", "train", "client"])
def test_a_quickstart_fits_on_two_screens(page):
    assert len((ROOT / f"docs/quickstart-{page}.md").read_text().splitlines()) <= 80


def test_the_readme_is_one_page():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 80


def test_the_picture_of_the_rooms_is_of_today():
    from tests.rooms_picture import PICTURE, rooms_svg

    assert PICTURE.read_text() == rooms_svg(), "run python -m tests.rooms_picture"


def test_every_room_imports_only_what_is_drawn_below_it():
    from tests.rooms_picture import rooms_drawn_too_low

    assert not rooms_drawn_too_low()


@pytest.mark.parametrize(
    ("package", "page"), [("bodypose_tools", "rooms.svg"), ("bodypose_client", "code.md")]
)
def test_every_room_is_on_the_map(package, page):
    folder = ROOT / package.removeprefix("bodypose_") / package
    rooms = {path.parent.name for path in folder.glob("*/__init__.py")}
    text = (ROOT / "docs" / page).read_text()
    assert rooms
    assert not {room for room in rooms if not re.search(rf"[`>]{room}[`<]", text)}


_NAMED = re.compile(r"`((?:[\w/]*/)?test_\w+(?:\.py)?)`")


@pytest.mark.parametrize("page", ["security.md", "operations.md"])
def test_each_test_that_a_promise_names_exists(page):
    paths = list((ROOT / "tests").rglob("test_*.py"))
    files = {path.name for path in paths}
    functions = {name for path in paths for name in re.findall(r"def (test_\w+)", path.read_text())}
    named = _NAMED.findall((ROOT / "docs" / page).read_text())
    assert len(named) > 5
    missing = [
        name
        for name in named
        if not ((ROOT / name).is_file() or name.rpartition("/")[2] in files or name in functions)
    ]
    assert missing == []


def test_each_promise_of_security_names_its_test():
    text = (ROOT / "docs" / "security.md").read_text()
    table = text.split("| promise | how | test |\n|---|---|---|\n")[1].split("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()]
    assert len(rows) > 8
    assert [row[0].strip() for row in rows if not _NAMED.search(row[-1])] == []
