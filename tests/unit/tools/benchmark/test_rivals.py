"""What is named as a rival is looked at before it is measured."""

import pytest

from bodypose_tools.benchmark.conditions import Setting
from bodypose_tools.benchmark.rivals import Contest, measure
from bodypose_tools.benchmark.settings import Effort
from bodypose_tools.runtimes.predictor import PredictorError
from pose_runtime.spec import PipelineSpec


@pytest.mark.parametrize(
    ("is_graph", "reason"), [(True, "with an output of"), (False, "expected a network that runs")]
)
def test_another_graph_than_movenets_is_refused(tmp_path, tiny_onnx, is_graph, reason):
    tiny = tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec(network_hw=(32, 48)))
    movenet = tiny_onnx(tmp_path / "movenet.onnx", PipelineSpec(network_hw=(288, 384)))
    if not is_graph:
        movenet.write_bytes(b"no graph")
    setting = Setting(tiny, Effort.QUICK, 1, None, str)
    with pytest.raises(PredictorError, match=f"movenet.onnx: .*{reason}"):
        measure(setting, Contest(movenet))
