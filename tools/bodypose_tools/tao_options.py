"""TAO's command lines: its names of options, and those that mean nothing here, by command.

None of them is shown by `--help`; `docs/coming-from-tao.md` lists them. What has a meaning becomes
our words before the line is parsed; what has none is named in one line and left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

import typer

from bodypose_client.commands.shared_options import Command

_Words = Callable[[str], Sequence[str]]


class Takes(Enum):
    """How many values follow an option."""

    NONE = 0
    ONE = 1
    SEVERAL = 2  # as far as the next option


@dataclass(frozen=True)
class TaoOption:
    """One of TAO's options."""

    names: tuple[str, ...]  # with hyphens: `--max-batch-size`
    takes: Takes = Takes.ONE
    words: _Words = lambda _: ()  # our words for a value
    why: str = ""  # why it means nothing here; said when it is given
    allowed: tuple[str, ...] = ()  # values, where TAO had a choice that is left
    is_number: bool = False
    first: bool = False  # its words are the first of the line: they are arguments
    otherwise: Callable[[str], str | None] = lambda _: None  # the first argument, if none is given

    def check(self, name: str, value: str) -> None:
        """Refuse a wrong value. Raises: typer.BadParameter."""
        if self.allowed and value not in self.allowed:
            raise typer.BadParameter(
                f"expected {' or '.join(self.allowed)}, got {value}", param_hint=name
            )
        if self.is_number and not value.lstrip("-").isdecimal():
            raise typer.BadParameter(f"expected an integer, got {value}", param_hint=name)


def _flag(*names: str, why: str) -> TaoOption:
    return TaoOption(names, Takes.NONE, why=why)


def _ignored(*names: str, why: str, allowed: tuple[str, ...] = (), **more: Any) -> TaoOption:
    return TaoOption(names, why=why, allowed=allowed, **more)


def _renamed(*names: str, ours: str) -> TaoOption:
    return TaoOption(names, words=lambda value: (ours, value))


def _inference_spec(file: str) -> Sequence[str]:
    """The options of TAO's inference spec; `-i FOLDER` stays ours."""
    if Path(file).suffix.lower() not in (".yaml", ".yml"):
        return "--images", file
    from bodypose_tools.training.tao_spec import evaluation_options

    options, dropped = evaluation_options(Path(file))
    unused = ", ".join(key for key in dropped if key != "model_path")
    say(f"{file}: {' '.join(options) or 'nothing to set'}{unused and f'; not used: {unused}'}")
    return options


def _noted_inference_spec(file: str) -> Sequence[str]:
    from bodypose_tools.training.tao_spec import evaluation_options

    options, _ = evaluation_options(Path(file))
    if options:
        say(f"{file}: {' '.join(options)} is for `tools evaluate`; images are seen once, padded")
    return ()


def _model_path(file: str) -> str | None:
    """The model that an inference spec names."""
    from bodypose_tools.training.tao_spec import model_path

    return model_path(Path(file)) if Path(file).suffix.lower() in (".yaml", ".yml") else None


def _test_data(file: str) -> Sequence[str]:
    from bodypose_tools.training.tao_spec import read_splits

    splits = read_splits(Path(file))
    annotations, images = (str(splits.root / each) for each in splits.test)
    return "--annotations", annotations, "--images", images


def _excluded_layer(name: str) -> Sequence[str]:
    """TAO numbers its backbone's layers; its output layers are never cut here, either."""
    if name in ("paf_out", "heatmap_out"):
        say(f"-el {name} is not needed: output layers are never cut")
        return ()
    return "-el", re.sub(r"^(block_\d[a-z]_(?:conv|bn))_1$", r"\1", name)


def say(line: str) -> None:
    """One line on stderr."""
    typer.echo(line, err=True)


_MODEL = TaoOption(("-m", "--model", "--model-filename"), words=lambda model: (model,), first=True)
_KEY = _ignored("-k", "--key", why="nothing is encrypted")
_LOG_LEVEL = TaoOption(
    ("-ll", "--log-level"),
    words=lambda level: ("--verbose",) if level == "DEBUG" else (),
    allowed=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
)
_EXCLUDED = TaoOption(("-el", "--excluded-layers"), Takes.SEVERAL, words=_excluded_layer)
_RESULTS = _ignored("-r", "--results-dir", why="there is no status.json; a record is beside -o")
_GPUS = (
    _ignored("--gpu-index", why="CUDA_VISIBLE_DEVICES chooses GPUs", takes=Takes.SEVERAL),
    _ignored("-np", "--num-processes", why="one process uses all devices"),
    _flag("--use-amp", why="`mixed_precision` in the spec chooses the arithmetic"),
    _ignored("--log-file", why="redirect stdout and stderr"),
)

# Command -> TAO's options that are not ours under the same name.
TAO_OPTIONS: Final[Mapping[str, tuple[TaoOption, ...]]] = {
    "train": (_renamed("--experiment-spec-file", ours="-e"), _KEY, _LOG_LEVEL, *_GPUS),
    "retrain": (_renamed("--experiment-spec-file", ours="-e"), _KEY, _LOG_LEVEL, *_GPUS),
    "evaluate": (
        _MODEL,
        TaoOption(("-i", "--inference-spec"), words=_inference_spec, otherwise=_model_path),
        TaoOption(("-d", "--dataset-spec"), words=_test_data),
        _ignored("--dataset", why="the data set is what -d names", allowed=("coco",)),
        TaoOption(
            ("-r", "--results-dir"),
            words=lambda folder: ("--json", str(Path(folder) / "results.json")),
        ),
        _KEY,
        _LOG_LEVEL,
    ),
    "inference": (
        _MODEL,
        TaoOption(
            ("-i", "--inference-spec"), words=_noted_inference_spec, otherwise=_model_path
        ),
        _renamed("-r", ours="-o"),
        TaoOption(("--input",), words=lambda path: (path,)),
        _ignored("--input-type", why="the input is seen for itself",
                 allowed=("image", "dir", "json")),
        _ignored("--image-root-path", why="paths in a list count from the list's folder"),
        TaoOption(("--dump-visualizations",), Takes.NONE, words=lambda _: ("--visualize",)),
        _KEY,
        _LOG_LEVEL,
    ),
    "prune": (_EXCLUDED, _RESULTS, _KEY),
    "optimize": (_EXCLUDED,),
    "export": (
        _ignored("-e", "--experiment-spec", why="the model file carries what export needs"),
        _ignored("-t", "--backend", why="the graph is ONNX", allowed=("onnx", "tfonnx")),
        _ignored("-i", "--data-format", why="the network is channels_last",
                 allowed=("channels_last", "nhwc")),
        _ignored("-u", "--upsample-ratio", why="peaks are refined without upsampling",
                 is_number=True),
        _ignored("--static-batch-size", why="the graph takes any batch; --max-batch-size bounds"
                 " an engine's", is_number=True),
        _flag("-s", "--strict-type-constraints", why="the graph fixes each layer's precision"),
        _flag("--force-ptq", why="INT8 here is always calibrated after training"),
        _RESULTS,
        _KEY,
    ),
    "build-engine": (_renamed("--engine-file", ours="-o"),),
    "dataset-convert": (_KEY, _RESULTS),
}  # fmt: skip


@dataclass
class _Line:
    """A command line in our words."""

    front: list[str] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)


def our_words(command: str, line: Sequence[str], with_values: Iterable[str]) -> list[str]:
    """A line of TAO's options in our words.

    Args:
        command: name of the command.
        line: its words.
        with_values: our options that take a value, by their names with hyphens.

    Raises:
        typer.BadParameter: a value that TAO's option cannot have here, or none.
    """
    known = {name: each for each in TAO_OPTIONS.get(command, ()) for name in each.names}
    ours, left, out = set(with_values), list(line), _Line()
    otherwise, has_argument = None, False
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        name = name.replace("_", "-") if name.startswith("-") else name
        option = known.get(name)
        if word == "--":
            out.rest += [word, *left]
            has_argument = True
            break
        if option is None:
            out.rest.append(word)
            has_argument |= not word.startswith("-")
            if name in ours and not equals and left:
                out.rest.append(left.pop(0))
            continue
        values = [value] if equals else _values(option, name, left)
        for each in values:
            option.check(name, each)
            (out.front if option.first else out.rest).extend(option.words(each))
            otherwise = option.otherwise(each) or otherwise
        if option.why:
            say(f"{word.partition('=')[0]} is not used: {option.why}")
    if otherwise and not out.front and not has_argument:
        out.front.append(otherwise)
    return out.front + out.rest


def _values(option: TaoOption, name: str, left: list[str]) -> list[str]:
    """The values of an option, taken from the front of what is left of the line."""
    if option.takes is Takes.NONE:
        return [""]
    values: list[str] = []
    while left and (not values or option.takes is Takes.SEVERAL):
        if left[0].startswith("-") and not left[0].lstrip("-").isdecimal():
            break
        values.append(left.pop(0))
    if not values:
        raise typer.BadParameter("expected a value, got none", param_hint=name)
    return values


class ToolsCommand(Command):
    """A command of `tools`, which also understands TAO's lines."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with_values = {
            name.replace("_", "-")
            for each in self.get_params(ctx)
            if getattr(each, "is_flag", True) is False
            for name in each.opts
        }
        return super().parse_args(ctx, our_words(self.name or "", args, with_values))
