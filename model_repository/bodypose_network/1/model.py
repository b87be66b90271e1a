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
    import openvino

    settings = {
        # Left alone, OpenVINO takes bfloat16 where the processor has it, and keypoints move.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = openvino.Core().compile_model(MODEL, "CPU", settings)
    request = compiled.create_infer_request()
    outputs = [compiled.output(tensor.name) for tensor in (spec.peaks, spec.limb_scores)]

    def run(pixels):
        results = request.infer({spec.pixels.name: pixels}, share_inputs=True)
        return [results[output] for output in outputs]

    return run
