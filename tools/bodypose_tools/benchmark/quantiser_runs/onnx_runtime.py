"""ONNX Runtime's static quantiser on one graph: `python onnx_runtime.py JOB.json`."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

job = json.loads(Path(sys.argv[1]).read_text())


class Images(CalibrationDataReader):
    """One image a call."""

    def __init__(self) -> None:
        self._images = iter(np.load(job["pixels"]))

    def get_next(self) -> dict[str, Any] | None:
        """The next input; None after the last."""
        image = next(self._images, None)
        return None if image is None else {job["input"]: image[None]}


quantize_static(
    job["model"],
    job["out"],
    Images(),
    quant_format=QuantFormat.QDQ,
    per_channel=True,
    activation_type=QuantType.QInt8,
    weight_type=QuantType.QInt8,
    calibrate_method=CalibrationMethod[job["method"]],
    nodes_to_exclude=job["leave"],
    extra_options={"ActivationSymmetric": True},
)
