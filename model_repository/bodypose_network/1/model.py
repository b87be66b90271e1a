"""Triton's door to the network on a CPU: pixels in, peaks and limb scores out."""

import hashlib
import json
import os
from pathlib import Path

import triton_python_backend_utils as pb_utils

from .pose_runtime.door import Door  # pose_runtime/ is placed here by `tools build-repo`
from .pose_runtime.errors import SpecError
from .pose_runtime.spec import PipelineSpec

MODEL = Path(__file__).with_name("model.onnx")


class TritonPythonModel:
    def initialize(self, args):
        spec = PipelineSpec.load(Path(__file__).with_name("pipeline.json"))
        self.door = Door(pb_utils, (spec.pixels,), (spec.peaks, spec.limb_scores))
        self.door.check_config(args["model_config"])
        if hashlib.sha256(MODEL.read_bytes()).hexdigest() != spec.model_sha256:
            raise SpecError(
                f"{MODEL}: not the file that pipeline.json names; run `tools build-repo`"
            )
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"]) or len(os.sched_getaffinity(0))
        self.run = load_network(threads, spec)

    def execute(self, requests):
        return self.door.answer_batch(requests, self.run)


def load_network(threads, spec):
    """The network as a function: pixels (B, H, W, 3) to peaks and limb scores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    outputs = [spec.peaks.name, spec.limb_scores.name]
    return lambda pixels: session.run(outputs, {spec.pixels.name: pixels})
