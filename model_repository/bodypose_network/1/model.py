"""Triton's door to the network on a CPU: pixels in, peaks and limb scores out."""

import json
import os
from pathlib import Path

import triton_python_backend_utils as pb_utils

from .pose_runtime.admission import Admission  # pose_runtime/ is placed here by `tools build-repo`
from .pose_runtime.door import (
    Door,
    joined,
    parameter,
)
from .pose_runtime.integrity import check_files
from .pose_runtime.metrics import StageMetrics
from .pose_runtime.passage import Between
from .pose_runtime.spec import PipelineSpec

MODEL = Path(__file__).with_name("model.onnx")


class TritonPythonModel:
    def initialize(self, args):
        check_files(Path(__file__).parent)
        spec = PipelineSpec.load(Path(__file__).with_name("pipeline.json"))
        metrics = StageMetrics(pb_utils, "network")
        outputs = (spec.peaks, spec.limb_scores)
        passage = Between(Admission.of_this_server(), spec.place)
        self.door = Door(pb_utils, metrics, (spec.pixels,), outputs, passage=passage)
        self.door.check_config(args["model_config"])
        config = args["model_config"]
        precision, batch = parameter(config, "precision"), int(parameter(config, "batch"))
        self.run = load_network(threads_of(config), precision, batch, spec)

    def execute(self, requests):
        return self.door.answer_batch(requests, self.run)


def threads_of(config):
    """Threads of one instance: as many as the config says, or its share of the cores."""
    instances = sum(group["count"] for group in json.loads(config)["instance_group"])
    share = max(1, len(os.sched_getaffinity(0)) // instances)
    return int(parameter(config, "threads")) or share


def load_network(threads, precision, batch, spec):
    """The network as a function: pixels (B, H, W, 3) to peaks and limb scores.

    Of B images, `batch` are computed at once. On a CPU several take as long as one after the other,
    and one at a time needs a fraction of the memory.
    """
    import openvino

    core = openvino.Core()
    graph = core.read_model(MODEL)
    graph.reshape({spec.pixels.name: [batch if batch == 1 else -1, *spec.pixels.dims]})
    settings = {
        # Left alone, OpenVINO takes bfloat16 where the processor has it, and keypoints move.
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = core.compile_model(graph, "CPU", settings)
    request = compiled.create_infer_request()
    outputs = [compiled.output(tensor.name) for tensor in (spec.peaks, spec.limb_scores)]

    def run(pixels):
        parts = []
        for first in range(0, len(pixels), batch):
            part = {spec.pixels.name: pixels[first : first + batch]}
            results = request.infer(part, share_inputs=True)
            parts.append([results[output] for output in outputs])
        return [joined(each) for each in zip(*parts, strict=True)]

    return run
