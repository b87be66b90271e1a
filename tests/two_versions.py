"""A repository with two versions whose answers tell them apart, step by step.

Each of the three steps of version 2 leaves its mark in the answer: preprocessing inverts the
picture, the network takes the brightest pixel instead of the mean, grouping halves the scores.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bodypose_tools.repository import build as repositories
from bodypose_tools.repository import versions
from bodypose_tools.repository.build import build_repository
from pose_runtime.spec import PipelineSpec
from tests.tiny_network import write_tiny_onnx

SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)

_MARKS = {
    "images.py": (
        "_unmarked_pixels = checked_pixels\n"
        "def checked_pixels(*args):\n"
        "    pixels, letterbox = _unmarked_pixels(*args)\n"
        "    return 30 - pixels, letterbox\n"
    ),
    "poses.py": (
        "_unmarked_pack = pack_poses\n"
        "def pack_poses(*args):\n"
        "    keypoints, scores, count = _unmarked_pack(*args)\n"
        "    return keypoints, scores / 2, count\n"
    ),
}


def two_versions(folder: Path) -> Path:
    """The repository, in `folder`; `one.onnx` and `two.onnx` are the networks of its versions."""
    repository = folder / "repository"
    build_repository(write_tiny_onnx(folder / "one.onnx", SPEC), repository)
    marked = shutil.copytree(repositories.RUNTIME, folder / "pose_runtime")
    for name, mark in _MARKS.items():
        (marked / name).write_text(f"{(marked / name).read_text()}\n\n{mark}")
    with pytest.MonkeyPatch.context() as context:
        context.setattr(repositories, "RUNTIME", marked)
        versions.add_version(write_tiny_onnx(folder / "two.onnx", SPEC, "ReduceMax"), repository, 2)
    return repository
