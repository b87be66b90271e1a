"""Triton's door to preprocessing: an encoded image in, network pixels and their geometry out.

Where a GPU decodes, JPEGs for it go on as they are.
"""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .pose_runtime.admission import (  # pose_runtime/ is placed here by `tools build-repo`
    Admission,
    check_limit,
)
from .pose_runtime.decode_process import BoundedDecoder
from .pose_runtime.door import Door, card_decodes, parameter
from .pose_runtime.integrity import check_files
from .pose_runtime.metrics import StageMetrics
from .pose_runtime.passage import Entrance
from .pose_runtime.spec import PipelineSpec


class TritonPythonModel:
    def initialize(self, args):
        check_files(Path(__file__).parent)
        self.spec = spec = PipelineSpec.load(Path(__file__).with_name("pipeline.json"))
        metrics = StageMetrics(pb_utils, "preprocess")
        limit = check_limit(int(parameter(args["model_config"], "max_images_under_way")))
        self.for_card = card_decodes(args["model_config"])
        made = spec.encoded if self.for_card else spec.pixels
        asked = frozenset(tensor.name for tensor in (made, spec.geometry, spec.place))
        passage = Entrance(Admission.of_this_server(), limit, asked)
        outputs = (made, spec.geometry, spec.image_hw)
        self.door = Door(
            pb_utils, metrics, (spec.image,), outputs, passage=passage, place=spec.place
        )
        self.door.check_config(args["model_config"])
        self.decoder = BoundedDecoder(spec.network_hw, spec.limits)

    def finalize(self):
        self.decoder.close()
        self.door.metrics.close()

    def execute(self, requests):
        return self.door.answer_each(requests, self._place)

    def _place(self, image):
        if self.for_card:
            packed, letterbox = self.decoder.packed_for_card(image[0])
            made = np.array([packed], np.object_)
        else:
            made, letterbox = self.decoder.network_pixels(image[0])
        return made, letterbox.to_geometry(), np.array(letterbox.image_hw, np.int32)
