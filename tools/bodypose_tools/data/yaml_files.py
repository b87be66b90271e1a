"""YAML that people write, read with its errors named and its size bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .skeletons import ConfigError, small_text

_MOST_NODES = 10_000


def read_yaml(path: Path) -> Any:
    """The values of a YAML file; JSON is YAML, too.

    Raises:
        ConfigError: no such file, no YAML, or one that is too large with its aliases written out.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: expected a YAML spec, got nothing there")
    try:
        return _bounded_yaml(small_text(path))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from error
    except (OSError, ValueError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{path}: expected YAML, got {str(error)[:200]}") from error


def _bounded_yaml(text: str) -> Any:
    """YAML's values.

    Raises:
        ValueError: with its aliases written out it would be too large, or a key stands twice.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_NODES  # of a node that holds itself
            children: list[yaml.Node] = []
            if isinstance(node, yaml.MappingNode):
                children = [each for pair in node.value for each in pair]
                _refuse_twice([key for key, _ in node.value])
            elif isinstance(node, yaml.SequenceNode):
                children = node.value
            sizes[id(node)] = 1 + sum(map(size, children))
        return sizes[id(node)]

    root = yaml.compose(text, yaml.SafeLoader)
    if root is not None and size(root) >= _MOST_NODES:
        raise ValueError(f"more than {_MOST_NODES} values, with aliases written out")
    return yaml.safe_load(text)


def _refuse_twice(keys: list[yaml.Node]) -> None:
    """Of two values of one key PyYAML takes the last, in silence."""
    first: dict[str, int] = {}
    for key in keys:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":  # may merge several
            continue
        line = key.start_mark.line + 1
        if key.value in first:
            raise ValueError(
                f"the key {key.value!a:.80} twice, in lines {first[key.value]} and {line}"
            )
        first[key.value] = line
