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
from bodypose_tools.pruning.pareto import TradeOff

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "MODEL_CARD.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text()):
        link = next(filter(None, target))
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def results_rows() -> list[list[str]]:
    rows = re.findall(r"^\|.*docs/results/.*\|$", (ROOT / "README.md").read_text(), re.M)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_results_table_is_what_the_commands_wrote():
    rows = results_rows()
    assert len(rows) == 5
    for row in rows:
        path = re.search(r"\((docs/results/[^)]+)\)", row[-1]).group(1)
        metrics = json.loads((ROOT / path).read_text())["metrics"]
        named = ("AP", "AP50", "AP75", "APm", "APl", "AR")
        assert row[1:7] == [f"{metrics[name]:.3f}" for name in named], path


def test_served_results_are_of_the_shipped_model():
    shipped = json.loads((ROOT / "tools/bodypose_tools/models/bodypose-s.onnx.json").read_text())[
        "sha256"
    ]
    for name in ("val-onnx", "val-server-grpc", "val-server-http"):
        assert result(name)["model"]["sha256"] == shipped, f"{name}.json is of another model"


def result(name: str) -> Any:
    return json.loads((ROOT / f"docs/results/{name}.json").read_text())


def test_the_levers_of_the_readme_are_what_was_measured():
    readme = (ROOT / "README.md").read_text().splitlines()
    for title, gate, speed in (
        ("`bodypose-s`, INT8", "int8-gate", "int8"),
        ("`bodypose-s` pruned, INT8", "int8-gate-pruned", "int8-pruned"),
        ("`bodypose-vgg19`, INT8", "int8-gate-vgg19", "int8-vgg19"),
        ("`bodypose-vgg19` pruned, INT8", "int8-gate-vgg19-pruned", "int8-vgg19-pruned"),
    ):
        before, after = (result(gate)[side]["metrics"]["AP"] for side in ("float", "candidate"))
        sides = ("openvino int8", "openvino int8, rest bf16")
        alone, mixed = (
            result(speed)["variants"][side]["times_as_fast"]["median"] for side in sides
        )
        said = f"{alone:.2f}, with bfloat16 for the rest {mixed:.2f}"
        assert f"| {title} | {before:.3f} -> {after:.3f} | {said} |" in readme
    served_in_bf16 = result("int8-gate-bf16")["candidate"]["metrics"]["AP"]
    assert any(f"the first INT8 row has {served_in_bf16:.3f}" in line for line in readme)
    for network, record in result("prune")["networks"].items():
        loop = TradeOff.from_json(record)
        title = f"`{network}` pruned to {loop.macs_share(loop.best):.0%} of its multiplications"
        said = f"{loop.best.times_as_fast('openvino'):.2f}"
        assert f"| {title} | {loop.unpruned.ap:.3f} -> {loop.best.ap:.3f} | {said} |" in readme


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
