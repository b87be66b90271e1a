"""NNCF on one graph: `python openvino_nncf.py JOB.json`."""

import json
import sys
from pathlib import Path

import nncf
import numpy as np
import onnx

job = json.loads(Path(sys.argv[1]).read_text())
pixels = np.load(job["pixels"])
made = nncf.quantize(
    onnx.load(job["model"]),
    nncf.Dataset([{job["input"]: image[None]} for image in pixels]),
    preset=nncf.QuantizationPreset(job["method"]),
    subset_size=len(pixels),
    ignored_scope=nncf.IgnoredScope(names=job["leave"], validate=False),
)
onnx.save(made, job["out"])
