"""A person from TAO, in a shell: their lines run one after the other, and only we speak."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.processes import TOOLS
from tests.unit.tools.training.test_tao_spec import TAO

# What libraries write about themselves, in any form that we have seen.
NOISE = re.compile(
    r"absl|oneDNN|tensorrt_rtx:|TensorRT-|retracing|\.(cc|cpp|h):\d+|^[IWEF]\d{4} "
    r"|Warning:|WARNING:|cuda|TF-TRT|rebuild TensorFlow",
    re.I,
)
SPEC = {
    "num_epoch: 50": "num_epoch: 1",
    "validation_every_n_epoch: 10": "validation_every_n_epoch: 1",
    "checkpoint_n_epoch: 5": "checkpoint_n_epoch: 1",
    "height: 256, width: 320": "height: 64, width: 96",
    "batch_size: 10": "batch_size: 3",
    "stages: 4": "stages: 2",
}
LINES = {
    "draw": "draw-people -n 3 -o drawn",
    "dataset_convert": "dataset_convert -m train -o data/train -r results --generate_masks"
    " --dataset_spec coco_spec.json",
    "train": "train -e train.yaml -r unpruned -k KEY --gpus 1 -ll INFO",
    "evaluate": "evaluate --inference_spec infer.yaml --model_filename unpruned/best.keras"
    " --dataset_spec coco_spec.json --results_dir eval -k KEY",
    "inference": "inference -i infer.yaml -m unpruned/best.keras --input_type dir --input drawn"
    " --results_dir found --dump_visualizations -k KEY",
    "prune": "prune -m unpruned/best.keras -o pruned/pruned.keras -r results -eq union -pth 0.05"
    " -el block_1a_conv_1 block_1b_conv_1 paf_out -k KEY",
    "retrain": "train -e retrain.yaml -r retrained --gpus 1",
    "sample": "sample_calibration_images -a drawn/people.json -i drawn -o calibration -n 2 -pth 1"
    " -kth 3 --randomize",
    "export": "export -m retrained/best.keras -o final/model.onnx -k KEY -d 64,96,3 -e retrain.yaml"
    " -t tfonnx --data_format channels_last --sdk_compatible_model -s --static_batch_size -1"
    " --force_ptq -u 4 -r results",
    "int8": "export -m final/model.onnx -o final/int8.onnx -t tfonnx --data_type int8"
    " --cal_image_dir calibration --cal_cache_file final/cal.bin --cal_data_file"
    " final/cal.tensorfile --batch_size 1 --batches 2 --min-agreement 0",
    "engine": "build-engine final/model.onnx --engine_file final/model.plan --runtime tensorrt-rtx"
    " --max_batch_size 1",
    "oracle": "oracle -a drawn/people.json -i drawn",
    "tune": "tune-grouping unpruned/best.keras -a drawn/people.json -i drawn -n 2",
    "compare": "compare final/model.onnx final/int8.onnx --images drawn",
    "evaluate-onnx": "evaluate final/model.onnx -a drawn/people.json -i drawn",
    "modes": "compare-modes unpruned/best.keras -a drawn/people.json -i drawn",
    "sizes": "compare-sizes unpruned/best.keras -a drawn/people.json -i drawn -d 64,96,3",
    "unsigned": "export -m final/model.onnx -o final/cpu.onnx --data_type int8 --batch_size 1"
    " --batches 2 --cal_image_dir calibration --min-agreement 0 --unsigned_activations",
    "gate": "gate final/model.onnx final/cpu.onnx -a drawn/people.json -i drawn --max-ap-drop 1"
    " --runtime openvino",
    "speed": "compare-speed final/model.onnx final/int8.onnx --rounds 1",
    "equalise": "equalise final/model.onnx -o final/even.onnx --cal-image-dir calibration -n 2",
    "bulk": "bulk drawn -o poses -m final/model.onnx",
    "build-repo": "build-repo final/model.onnx -o repository",
    "check-repo": "check-repo repository",
}


pytestmark = pytest.mark.timeout(1200)  # the first test of the module waits for all lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tao")
    part = {"images_root_dir_path": ".", "annotation_root_dir_path": "people.json"}
    data = {"root_directory_path": "drawn", "train_data": part, "test_data": part}
    (folder / "coco_spec.json").write_text(json.dumps(data))
    (folder / "infer.yaml").write_text(
        "input_shape: [64, 96]\nkeep_aspect_ratio_mode: pad_image_input\npaf_threshold: 0.05\n"
    )
    spec = TAO
    for old, new in SPEC.items():
        assert old in spec
        spec = spec.replace(old, new)
    (folder / "train.yaml").write_text(spec)
    (folder / "retrain.yaml").write_text(spec.replace("/models/pruned.hdf5", "pruned/pruned.keras"))
    return folder


@pytest.fixture(scope="module")
def ended(folder: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Each line, in its order, until one fails."""
    done: dict[str, subprocess.CompletedProcess[str]] = {}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    for name, line in LINES.items():
        done[name] = subprocess.run(
            [*TOOLS, *line.split()],
            cwd=folder,
            env=kept,
            capture_output=True,
            text=True,
            check=False,
        )
        if done[name].returncode:
            break
    return done


@pytest.mark.parametrize("name", LINES)
def test_a_line_runs(ended, name):
    assert name in ended, f"not reached: {[*ended][-1]} failed"
    assert ended[name].returncode == 0, ended[name].stderr[-2000:]


@pytest.mark.parametrize("name", LINES)
def test_only_we_speak(ended, name):
    if name not in ended:
        pytest.fail(f"not reached: {[*ended][-1]} failed")
    lines = (ended[name].stderr + ended[name].stdout).splitlines()
    assert [line for line in lines if NOISE.search(line)] == []


def test_what_has_no_meaning_is_named_once(ended):
    said = [line.split()[0] for line in ended["export"].stderr.splitlines() if "not used" in line]

    assert said == ["-k", "-e", "-t", "--data_format", "-s", "--static_batch_size", "--force_ptq",
                    "-u", "-r"]  # fmt: skip


def test_what_a_person_asks_for_is_shown(folder, ended):
    line = [*TOOLS, "prune", "-m", "unpruned/best.keras", "-o", "again.keras", "-v", "--dry-run"]

    shown = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True)

    assert "oneDNN" in shown.stderr
