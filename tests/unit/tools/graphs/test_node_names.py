"""The same network gives the same bytes, whatever the converter called and ordered its parts."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bodypose_tools.files.artifacts import sha256_of
from bodypose_tools.graphs.node_names import BATCH, name_by_place

FLOAT = onnx.TensorProto.FLOAT


def graph_called(seed: int) -> onnx.GraphProto:
    """Two convolutions of one input, joined; names and orders by the seed."""
    chance = random.Random(seed)
    called = {
        name: f"{name}__{chance.randrange(10**6)}" for name in ("k", "k2", "a", "b", "c", "d")
    }
    side = f"unk__{chance.randrange(10**6)}"
    kernel = np.ones((2, 3, 1, 1), np.float32)
    stored = [
        numpy_helper.from_array(kernel, called["k"]),
        numpy_helper.from_array(kernel * 2, called["k2"]),
        numpy_helper.from_array(kernel, f"unused__{seed}"),
    ]
    makers = [
        helper.make_node("Conv", ["pixels", called["k"]], [called["a"]], name="layer/Conv__7"),
        helper.make_node("Conv", ["pixels", called["k2"]], [called["b"]], name=called["b"]),
        helper.make_node("Relu", ["pixels"], [f"nobody_needs__{seed}"]),
    ]
    if seed % 2:
        makers[0].domain = ""
    chance.shuffle(makers)
    chance.shuffle(stored)
    add = helper.make_node("Add", [called["a"], called["b"]], [called["c"]], name=called["c"])
    end = helper.make_node("Relu", [called["c"]], ["found"], name=called["d"])
    return helper.make_graph(
        [*makers, add, end],
        "network",
        [helper.make_tensor_value_info("pixels", FLOAT, [side, 3, 4, 4])],
        [helper.make_tensor_value_info("found", FLOAT, [side, 2, 4, 4])],
        stored,
    )


def named(graph: onnx.GraphProto) -> onnx.GraphProto:
    return name_by_place(helper.make_model(graph)).graph


def test_names_and_orders_are_those_of_the_graph_and_not_of_the_converter():
    graphs = [graph_called(seed) for seed in range(6)]
    assert len({graph.SerializeToString() for graph in graphs}) == 6

    graphs = [named(graph) for graph in graphs]

    assert len({graph.SerializeToString() for graph in graphs}) == 1
    assert [node.name for node in graphs[0].node] == ["layer/Conv", "b", "Add_2", "Relu_3"]
    assert [tensor.name for tensor in graphs[0].initializer] == [
        "layer/Conv/constant_1",
        "b/constant_1",
    ]
    assert graphs[0].input[0].type.tensor_type.shape.dim[0].dim_param == BATCH


def test_inputs_and_outputs_that_a_node_has_not_stay_away():
    scales = numpy_helper.from_array(np.float32([1, 1, 2, 2]), "scales")
    nodes = [
        helper.make_node("MaxPool", ["pixels"], ["pooled", ""], kernel_shape=[1, 1]),
        helper.make_node("Resize", ["pooled", "", "scales"], ["found"]),
    ]
    ends = [[helper.make_tensor_value_info(name, FLOAT, None)] for name in ("pixels", "found")]
    graph = helper.make_graph(nodes, "resized", *ends, [scales])

    graph = named(graph)

    pool, resize = graph.node
    assert pool.output[1] == ""
    assert list(resize.input) == [pool.output[0], "", graph.initializer[0].name]


def test_the_graph_computes_what_it_did():
    from onnx.reference import ReferenceEvaluator

    before = graph_called(1)
    after = named(before)
    assert before == graph_called(1)
    pixels = np.random.default_rng(0).random((2, 3, 4, 4)).astype(np.float32)
    answers = [
        ReferenceEvaluator(helper.make_model(graph)).run(None, {"pixels": pixels})[0]
        for graph in (before, after)
    ]
    assert np.array_equal(*answers)


@pytest.mark.slow
def test_two_processes_export_the_same_bytes(tiny_keras, tmp_path):
    export = [sys.executable, "-m", "bodypose_tools.cli", "export", "-m", tiny_keras]
    for seed in "12":
        subprocess.run(
            [*export, "-o", tmp_path / f"{seed}.onnx", "--sdk_compatible_model"],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
        )
    assert sha256_of(tmp_path / "1.onnx") == sha256_of(tmp_path / "2.onnx")
