"""Triton's door to the network: pixels in, peaks and limb scores out, on a CPU or a GPU."""

import json
import os
from pathlib import Path

import triton_python_backend_utils as pb_utils

from .pose_runtime.admission import Admission  # pose_runtime/ is placed here by `tools build-repo`
from .pose_runtime.door import Door, card_decodes, joined, parameter
from .pose_runtime.errors import SpecError
from .pose_runtime.integrity import check_files
from .pose_runtime.metrics import StageMetrics
from .pose_runtime.passage import Between
from .pose_runtime.spec import PipelineSpec

MODEL = Path(__file__).with_name("model.onnx")
PLAN = Path(__file__).with_name("model.plan")


class TritonPythonModel:
    def initialize(self, args):
        check_files(Path(__file__).parent)
        spec = PipelineSpec.load(Path(__file__).with_name("pipeline.json"))
        metrics = StageMetrics(pb_utils, "network")
        outputs = (spec.peaks, spec.limb_scores)
        passage = Between(Admission.of_this_server(), spec.place)
        decodes = card_decodes(args["model_config"])
        source = spec.encoded if decodes else spec.pixels
        self.door = Door(pb_utils, metrics, (source,), outputs, passage=passage)
        self.door.check_config(args["model_config"])
        self.run = load_network(
            spec, args["model_config"], args["model_instance_name"], decodes=decodes
        )

    def finalize(self):
        self.door.metrics.close()

    def execute(self, requests):
        return self.door.answer_batch(requests, self.run)


def load_network(spec, config, instance, *, decodes):
    """The network in the runtime that config.pbtxt names; libraries load only for their own."""
    runtime = parameter(config, "runtime", "openvino")  # repositories of 0.1.0 name none
    precision = parameter(config, "precision", "")
    number = int(instance.rpartition("_")[2])
    if runtime == "openvino":
        from .pose_runtime.openvino_network import openvino_network

        batch = int(parameter(config, "batch"))
        network = openvino_network(MODEL, spec, precision, threads_of(config), batch)
        return lambda pixels: network(joined(pixels))
    if runtime == "cuda":
        from .pose_runtime.cuda_network import cuda_network

        batches = [int(size) for size in parameter(config, "batches").split(",")]
        network = cuda_network(MODEL, spec, precision, batches, number, decodes=decodes)
        return lambda images: network([image for array in images for image in array])
    if runtime == "tensorrt":
        from .pose_runtime.tensorrt_network import tensorrt_network

        network = tensorrt_network(PLAN, spec, number)
        return lambda pixels: network(joined(pixels))
    raise SpecError(
        f"runtime: expected openvino, cuda or tensorrt, got {runtime}; run `tools build-repo`"
    )


def threads_of(config):
    """Threads of one instance: as many as the config says, or its share of the cores."""
    instances = sum(group["count"] for group in json.loads(config)["instance_group"])
    share = max(1, len(os.sched_getaffinity(0)) // instances)
    return int(parameter(config, "threads")) or share
