"""The `tools` command as a whole: spellings and help."""

import re

import pytest
import typer
from typer.testing import CliRunner

from bodypose_tools.cli import COMMANDS, app, extra_of

ROOT = typer.main.get_command(app)
NAMES = [c.__name__.replace("_", "-") for panel in COMMANDS.values() for c in panel]


def help_of(name: str) -> str:
    return CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80"}).output


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_an_example(name):
    assert f"Example: tools {name}" in help_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_help_that_can_be_read_alone(name):
    helps = {param.name: getattr(param, "help", None) for param in ROOT.commands[name].params}
    assert [param for param, text in helps.items() if not text] == []
    assert [text for text in helps.values() if re.match("(Of|That|Them) ", text)] == []


@pytest.mark.parametrize(
    "option", ["--experiment_spec", "--experiment-spec", "--experiment_spec_file", "-e"]
)
def test_taos_spelling_of_an_option_is_ours(option, tmp_path):
    result = CliRunner().invoke(app, ["train", option, "absent.yaml", "--results_dir", "run"])

    assert "absent.yaml: expected a YAML spec" in str(result.exception)


@pytest.mark.parametrize(
    ("line", "extras"),
    [
        ("train -e spec.yaml", "train"),
        ("export -m a.keras", "train,export"),
        ("build-repo", "embedded"),
        ("--version", "tools"),
    ],
)
def test_the_hint_for_a_missing_package_brings_all_that_the_command_needs(line, extras):
    assert extra_of(line.split())["onnx"] == extras
    assert "keras" not in extra_of(line.split())  # its extra is the same for all
