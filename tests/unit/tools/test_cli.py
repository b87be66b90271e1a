"""The `tools` command as a whole."""

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app, extra_of


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
        ("bulk photos -o poses", "bulk"),
        ("--version", "tools"),
    ],
)
def test_the_hint_for_a_missing_package_brings_all_that_the_command_needs(line, extras):
    assert extra_of(line.split())["onnx"] == extras
    assert "keras" not in extra_of(line.split())  # its extra is the same for all
