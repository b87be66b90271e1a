"""A graph cut behind its convolutions computes what the whole one does."""

import numpy as np
import onnx
import pytest

from bodypose_tools.benchmark.graph_parts import OnnxPartsError, after_the_convolutions
from tests.unit.tools.tiny_graphs import Tiny, run


def test_both_parts_in_a_row_are_the_whole_graph(tmp_path):
    tiny = Tiny()
    stem = tiny.stem()
    fields = [tiny.conv(name, stem, (16, 4)) for name in ("heat", "paf")]
    both = tiny.op("Add", "both", *fields)
    whole = tiny.model(tiny.op("Relu", "out", both))
    onnx.save(whole, tmp_path / "whole.onnx")
    head, tail = (
        onnx.load_from_string(part) for part in after_the_convolutions(tmp_path / "whole.onnx")
    )
    assert [node.op_type for node in tail.graph.node] == ["Add", "Relu"]
    names = [output.name for output in head.graph.output]
    assert [tensor.name for tensor in tail.graph.input] == names == sorted(fields)
    heat, paf = run(head)
    np.testing.assert_allclose(run(whole)[0], np.maximum(heat + paf, 0), atol=1e-6)


def test_a_transposed_convolution_is_one_too(tmp_path):
    tiny = Tiny()
    kernel = tiny.constant("kernel", np.ones((16, 4, 2, 2), np.float32))
    larger = tiny.op("ConvTranspose", "larger", tiny.stem(), kernel)
    whole = tiny.model(tiny.op("Relu", "out", larger))
    onnx.save(whole, tmp_path / "whole.onnx")
    tail = onnx.load_from_string(after_the_convolutions(tmp_path / "whole.onnx")[1])
    assert [node.op_type for node in tail.graph.node] == ["Relu"]


def test_a_graph_without_convolutions_is_refused(tmp_path):
    tiny = Tiny()
    onnx.save(tiny.model(tiny.op("Relu", "out", "x")), tmp_path / "flat.onnx")
    with pytest.raises(OnnxPartsError, match="expected convolutions"):
        after_the_convolutions(tmp_path / "flat.onnx")
