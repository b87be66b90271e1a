"""A program's options work before and after the command."""

from typing import Annotated

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from bodypose_client.cli import app as client_app
from bodypose_client.commands.shared_options import Command
from bodypose_loadtest.cli import app as loadtest_app

app = typer.Typer()


@app.callback()
def _program(
    place: Annotated[str, typer.Option(envvar="PLACE", help="Where.")] = "here",
    loud: Annotated[bool, typer.Option("--loud", "-l", help="How.")] = False,
) -> None: ...


@app.command(cls=Command)
def say(ctx: typer.Context, word: str) -> None:
    typer.echo(f"{word} {ctx.parent.params['place']} {ctx.parent.params['loud']}")


@app.command(cls=Command)
def other(place: str = "own") -> None:
    typer.echo(place)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("say a", "a here False"),
        ("--place there say a", "a there False"),
        ("say a --place there -l", "a there True"),
        ("--place before say a --place after", "a after False"),
        ("--loud say --place there a", "a there True"),
        ("other --place mine", "mine"),  # a command's own option of the name
    ],
)
def test_an_option_works_on_either_side(line, said):
    result = CliRunner().invoke(app, line.split())

    assert result.stdout.strip() == said, result.output


def test_the_environment_counts_less_than_the_line():
    runner = CliRunner(env={"PLACE": "environment"})

    assert runner.invoke(app, ["say", "a"]).stdout.strip() == "a environment False"
    assert runner.invoke(app, ["--place", "x", "say", "a"]).stdout.strip() == "a x False"


def test_a_command_that_was_looked_at_by_itself_still_takes_them():
    program = get_command(app)
    alone = program.commands["say"]
    alone.get_params(alone.context_class(alone))

    context = program.context_class(program)
    taken = alone.get_params(alone.context_class(alone, parent=context))

    assert "place" in {each.name for each in taken}


def test_the_help_of_a_command_shows_them():
    page = CliRunner().invoke(app, ["say", "--help"]).output

    assert "--place" in page
    assert "--loud" in page


@pytest.mark.parametrize(
    "line",
    [
        "--url grpc://127.0.0.1:1 describe --timeout 1",
        "describe --url grpc://127.0.0.1:1 --timeout 1",
        "--token T describe --url grpc://127.0.0.1:1 --header a:b --timeout 1",
        "--url http://127.0.0.1:9 describe --url grpc://127.0.0.1:1 --timeout 1",
    ],
)
def test_the_clients_connection_is_named_on_either_side(line):
    result = CliRunner().invoke(client_app, line.split())

    assert "127.0.0.1:1" in str(result.exception)


def test_the_server_is_named_by_a_variable():
    runner = CliRunner(env={"POSE_CLIENT_URL": "http://127.0.0.1:1/other"})

    result = runner.invoke(client_app, ["describe", "--timeout", "1"])

    assert "127.0.0.1:1" in str(result.exception)


@pytest.mark.parametrize("line", ["--url nowhere run", "run --url nowhere"])
def test_the_load_tests_server_is_named_on_either_side(line):
    result = CliRunner().invoke(loadtest_app, [*line.split(), "--scenario", "open", "--rate", "1"])

    assert result.exit_code == 2
    assert "nowhere" in result.output
