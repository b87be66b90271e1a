"""What measures the records of each page again: `docs/results/commands.toml`, listed and run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bodypose_tools.results.record import read_made
from pose_runtime.errors import PoseError

COMMANDS: Final = "commands.toml"
_RECORD = re.compile(r"docs/results/([\w-]+)\.json")
_PLACE = re.compile(r"\{\w+\}")
_SERVERS = ("{grpc}", "{http}")


class MeasuringError(PoseError):
    """A page's records cannot be measured."""


@dataclass(frozen=True, slots=True)
class PageCommands:
    """How the records of one page are made.

    name: as it is asked for.
    page: path below the checkout.
    commands: in order, as they are typed; `{coco}`, `{new}`, `{grpc}` and `{http}` are filled in.
    needs: what a checkout does not bring; empty: nothing.
    """

    name: str
    page: str
    commands: tuple[str, ...]
    needs: str

    @property
    def records(self) -> list[str]:
        """Names, without `.json`, of what the commands write or read under docs/results."""
        return list(dict.fromkeys(_RECORD.findall("\n".join(self.commands))))

    def took_s(self, root: Path) -> float | None:
        """Seconds that the records took when they were made; None: one of them does not say."""
        seconds = 0.0
        for name in self.records:
            path = root / f"docs/results/{name}.json"
            took_s = read_made(path)[1].get("took_s") if path.is_file() else None
            if took_s is None:
                return None
            seconds += took_s
        return seconds


def page_commands(root: Path) -> list[PageCommands]:
    """Of every page of a checkout, in the file's order."""
    told = tomllib.loads((root / "docs/results" / COMMANDS).read_text())
    return [
        PageCommands(name, each["page"], tuple(each["commands"]), each.get("needs", ""))
        for name, each in told.items()
    ]


def named(root: Path, name: str) -> PageCommands:
    """The page of that name.

    Raises:
        MeasuringError: there is none.
    """
    known = {each.name: each for each in page_commands(root)}
    if name not in known:
        raise MeasuringError(f"{name}: expected one of {', '.join(known)}; run `make results`")
    return known[name]


def measure(root: Path, page: PageCommands, coco: Path) -> Iterator[str]:
    """Run a page's commands, one after the other; gives each before it runs.

    Args:
        root: the checkout, in which they run.
        page: of `page_commands`.
        coco: folder of COCO's annotation files and of the folders `train` and `val`.

    Raises:
        MeasuringError: a command fails; what the earlier ones wrote stays.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with TemporaryDirectory() as new:
        places = {"{coco}": shlex.quote(str(coco.absolute())), "{new}": shlex.quote(new)}
        for command in page.commands:
            with ExitStack() as stack:
                asks = any(place in command for place in _SERVERS)
                filled = _filled(command, {**places, **(_server_places(stack) if asks else {})})
                yield filled
                code = subprocess.run(shlex.split(filled), cwd=root, env=environment, check=False)
            if code.returncode:
                raise MeasuringError(f"{filled}: expected exit code 0, got {code.returncode}")


def _filled(command: str, places: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: places.get(place[0], place[0]), command)


def _server_places(stack: ExitStack) -> dict[str, str]:
    """What `_SERVERS` stand for: a server of the shipped model, which ends with the stack."""
    from bodypose_tools.files.shipped import SHIPPED_MODEL
    from bodypose_tools.repository.build import build_repository
    from bodypose_tools.server.embedded import embedded_server

    repository = Path(stack.enter_context(TemporaryDirectory())) / "repository"
    build_repository(SHIPPED_MODEL, repository)
    server = stack.enter_context(embedded_server(repository))
    urls = (f"grpc://{server.grpc_url}", f"http://{server.http_url}")
    return dict(zip(_SERVERS, urls, strict=True))


def duration(seconds: float | None) -> str:
    """In minutes; "?": not known."""
    return "?" if seconds is None else f"{seconds / 60:.1f} min"
