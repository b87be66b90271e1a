"""NVIDIA Model Optimizer on one graph: `python model_optimizer.py JOB.json`."""

import json
import re
import sys
from pathlib import Path

import numpy as np
from modelopt.onnx.quantization import quantize

job = json.loads(Path(sys.argv[1]).read_text())
quantize(
    job["model"],
    quantize_mode="int8",
    calibration_data={job["input"]: np.load(job["pixels"])},
    calibration_method=job["method"],
    calibration_eps=["cpu"],
    high_precision_dtype="fp32",
    nodes_to_exclude=[f"^{re.escape(name)}$" for name in job["leave"]],
    output_path=job["out"],
)
