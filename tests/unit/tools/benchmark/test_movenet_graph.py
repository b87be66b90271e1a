"""MoveNet's graph: fused nodes are taken apart, and what does not fit is refused by name."""

import base64
from pathlib import Path

import pytest

from bodypose_tools.benchmark.movenet_graph import export_movenet, separated
from bodypose_tools.pretrained.weight_file import BackboneError


def fused(*operators: str) -> dict:
    names = [base64.b64encode(name.encode()).decode() for name in operators]
    attributes = {"fused_ops": {"list": {"s": names}}, "epsilon": {"f": 0.0}, "T": {"type": 1}}
    return {
        "name": "conv",
        "op": "_FusedConv2D",
        "input": ["x", "kernel", "bias"],
        "attr": {**attributes, "padding": {"s": "U0FNRQ=="}},
    }


def test_a_fused_convolution_becomes_three_nodes_and_the_last_keeps_its_name():
    convolution, bias, activation = separated(fused("BiasAdd", "Relu6"))
    assert (convolution["op"], bias["op"], activation["op"]) == ("Conv2D", "BiasAdd", "Relu6")
    assert convolution["input"] == ["x", "kernel"]
    assert bias["input"] == [convolution["name"], "bias"]
    assert activation["input"] == [bias["name"]]
    assert activation["name"] == "conv"
    assert convolution["attr"] == {"T": {"type": 1}, "padding": {"s": "U0FNRQ=="}}


def test_other_nodes_stay_as_they_are():
    node = {"name": "add", "op": "AddV2", "input": ["a", "b"], "attr": {}}
    assert list(separated(node)) == [node]


def test_an_unknown_fusion_is_refused_by_name():
    with pytest.raises(BackboneError, match="conv: expected a bias and an activation"):
        list(separated(fused("FusedBatchNorm", "Relu")))


@pytest.mark.parametrize("hw", [(100, 128), (0, 32)])
def test_a_size_that_the_pyramid_cannot_halve_is_refused(tmp_path, hw):
    with pytest.raises(BackboneError, match="expected multiples of 32"):
        export_movenet(Path("unused"), tmp_path / "movenet.onnx", hw)
