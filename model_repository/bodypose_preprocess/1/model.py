"""Triton's door to preprocessing: an encoded image in, network pixels and their geometry out."""

from functools import partial
from pathlib import Path

import triton_python_backend_utils as pb_utils

from .pose_runtime.admission import Admission  # pose_runtime/ is placed here by `tools build-repo`
from .pose_runtime.door import Door, parameter
from .pose_runtime.images import network_pixels
from .pose_runtime.integrity import check_files
from .pose_runtime.metrics import StageMetrics
from .pose_runtime.spec import PipelineSpec


class TritonPythonModel:
    def initialize(self, args):
        check_files(Path(__file__).parent)
        self.spec = spec = PipelineSpec.load(Path(__file__).with_name("pipeline.json"))
        metrics = StageMetrics(pb_utils, "preprocess", args["model_config"])
        limit = int(parameter(args["model_config"], "max_images_under_way"))
        entering = partial(Admission.of_this_server().entering, limit=limit)
        outputs = (spec.pixels, spec.geometry)
        self.door = Door(pb_utils, metrics, (spec.image,), outputs, counting=entering)
        self.door.check_config(args["model_config"])

    def execute(self, requests):
        return self.door.answer_each(requests, self._place)

    def _place(self, image):
        pixels, letterbox = network_pixels(image[0], self.spec.network_hw, self.spec.limits)
        return pixels, letterbox.to_geometry()
