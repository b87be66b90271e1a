"""Triton's door to grouping: peaks, limb scores and geometry in, people out."""

from pathlib import Path

import triton_python_backend_utils as pb_utils

from .pose_runtime.admission import Admission  # pose_runtime/ is placed here by `tools build-repo`
from .pose_runtime.door import Door
from .pose_runtime.grouping import people_in_image
from .pose_runtime.integrity import check_files
from .pose_runtime.metrics import StageMetrics
from .pose_runtime.passage import Exit
from .pose_runtime.poses import pack_poses
from .pose_runtime.spec import PipelineSpec


class TritonPythonModel:
    def initialize(self, args):
        check_files(Path(__file__).parent)
        self.spec = spec = PipelineSpec.load(Path(__file__).with_name("pipeline.json"))
        inputs = (spec.peaks, spec.limb_scores, spec.geometry)
        outputs = (spec.keypoints, spec.scores, spec.num_people)
        metrics = StageMetrics(pb_utils, "grouping")
        passage = Exit(Admission.of_this_server(), spec.place)
        self.door = Door(pb_utils, metrics, inputs, outputs, spec.num_people, passage)
        self.door.check_config(args["model_config"])

    def finalize(self):
        self.door.metrics.close()

    def execute(self, requests):
        return self.door.answer_each(requests, self._group)

    def _group(self, peaks, limb_scores, geometry):
        poses = people_in_image(peaks, limb_scores, geometry, self.spec)
        return pack_poses(poses, self.spec.max_people)
