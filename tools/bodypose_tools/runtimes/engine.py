"""A TensorRT engine on the GPU as a `Predictor`.

Images have one scale, letterboxed to the size that the engine was built for.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bodypose_tools.engines.build import engine_record, load_runtime
from bodypose_tools.engines.settings import EngineRuntime
from bodypose_tools.files.artifacts import Artifact
from pose_runtime.spec import PipelineSpec
from pose_runtime.tensorrt_network import Cuda, cuda_runtime, engine_network, load_engine

from .predictor import Floats, Predictor, of_a_network


def open_engine(plan: Path) -> tuple[Predictor, PipelineSpec, Artifact]:
    """A predictor that runs an engine, its pipeline, and the file.

    Raises:
        EngineError: the file has no record of `tools build-engine`; TensorRT, its version,
            cuda-python or a GPU is missing; or the engine does not load.
        MissingArtifactError, StaleArtifactError: no such file, or it changed after it was made.
    """
    record = engine_record(plan)
    spec = PipelineSpec.from_json(json.dumps(record["pipeline"]))
    trt = load_runtime(EngineRuntime(record["runtime"]))
    with of_a_network(plan):
        cuda = Cuda(cuda_runtime())
        engine = load_engine(plan, trt, record, cuda.gpu_name)
        run = engine_network(engine, cuda, spec, record["max_batch_size"])

    def predict(batch: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        peaks, limb_scores = run(batch)
        return peaks, limb_scores

    return predict, spec, Artifact.open(plan)
