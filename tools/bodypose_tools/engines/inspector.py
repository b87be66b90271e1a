"""The layers of a built engine, read from the JSON of TensorRT's engine inspector.

Engines are built with detailed verbosity. A layer is an object with `Name` (joined names of the
fused layers), `LayerType`, `Metadata` (the ONNX nodes) and, for weighted layers, `Weights: {Type}`;
kernels that TensorRT generates itself have no `Weights`. No other field is read, because the others
changed between TensorRT 10 and 11.
Source: "Engine Inspector" in NVIDIA's TensorRT documentation, 10.16 and 11.4.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any


def layer_counts(text: str) -> dict[str, int]:
    """How many layers of each `LayerType`, most frequent first."""
    kinds = Counter(str(layer.get("LayerType", "unnamed")) for layer in _layers(text))
    return dict(kinds.most_common())


def int8_layers_that_fell_back(text: str, int8: Sequence[str]) -> list[str]:
    """The names in `int8` whose layer in the engine has weights of another type."""
    fell_back = set()
    for layer in _layers(text):
        weights = layer.get("Weights")
        if isinstance(weights, dict) and weights.get("Type", "Int8") != "Int8":
            fell_back |= _names(layer)
    return [name for name in int8 if name in fell_back]


def _layers(text: str) -> Iterator[dict[str, Any]]:
    """The layers with fields; in an engine of lower verbosity a layer is its name."""
    return (layer for layer in json.loads(text)["Layers"] if isinstance(layer, dict))


def _names(layer: dict[str, Any]) -> set[str]:
    """Names of all layers and ONNX nodes that were fused into a layer."""
    fused = re.split(r" \+ | \|\| ", str(layer.get("Name", "")))
    nodes = re.findall(r"\[ONNX Layer: ([^\]]+)\]", str(layer.get("Metadata", "")))
    return {*fused, *nodes}
