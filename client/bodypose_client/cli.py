"""The `pose-client` command: its options and its list of commands."""

from __future__ import annotations

import typer

from bodypose_client.commands import demo as cli_demo
from bodypose_client.commands import describe as cli_describe
from bodypose_client.commands import evaluate as cli_evaluate
from bodypose_client.commands import infer as cli_infer
from bodypose_client.commands import video as cli_video
from bodypose_client.commands.connection import access
from bodypose_client.commands.entry import run
from bodypose_client.commands.shared_options import Group

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback(
    help="Find people in photos through a running pose server (`tools serve` starts one)."
    "\n\nExample: `pose-client infer photo.jpg --url grpc://host:8001`"
    "\n\nThe options here go before the command or after it."
)(access)
for module in (cli_infer, cli_evaluate, cli_video, cli_describe, cli_demo):
    module.add_commands(app)


def main() -> None:
    """Entry point: an error that the user can fix is one line on stderr and exit code 1."""
    run(app, {})
