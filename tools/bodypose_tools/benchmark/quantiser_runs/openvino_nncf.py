"""NNCF on one graph, by its OpenVINO backend: `python openvino_nncf.py JOB.json`."""

import json
import sys
from pathlib import Path

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it sends usage statistics

import nncf  # noqa: E402
import numpy as np  # noqa: E402
import openvino  # noqa: E402

job = json.loads(Path(sys.argv[1]).read_text())
pixels = np.load(job["pixels"])
model = openvino.Core().read_model(job["model"])
# A convolution and its bias are two operators in OpenVINO; the second has the node's name.
names = [node.get_friendly_name() for node in model.get_ops()]
leave = {name for name in names if name.removesuffix("/WithoutBiases") in set(job["leave"])}
if leave:  # the last operators have the names of the outputs
    leave |= {
        result.input_value(0).get_node().get_friendly_name() for result in model.get_results()
    }
made = nncf.quantize(
    model,
    nncf.Dataset([image[None] for image in pixels]),
    preset=nncf.QuantizationPreset(job["method"]),
    subset_size=len(pixels),
    ignored_scope=nncf.IgnoredScope(names=sorted(leave), validate=False),
)
openvino.save_model(made, job["out"], compress_to_fp16=False)
