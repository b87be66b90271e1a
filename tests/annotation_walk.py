"""Every command that takes annotations, and what each reader makes of a COCO file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from bodypose_client.evaluation import open_split
from bodypose_tools.data.annotation_check import checked_coco
from bodypose_tools.data.coco import read_coco
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import BODYPOSE_18
from tests.command_walk import commands, line_of

CASES = (
    Path(os.environ.get("CASES_DIR", Path(__file__).parents[1].parent / "shared" / "cases"))
    / "coco"
)
needs_cases = pytest.mark.skipif(
    not CASES.is_dir(), reason="needs the drawn cases: set CASES_DIR or put them at ../shared/cases"
)


# Parts of a line that is about the annotations themselves.
IN_THE_FILE = ("annotations[", "images[", "categories")


def outcomes(annotations: Path, images: Path) -> list[object]:
    """What each reader makes of a file: the people it sees, or its one line."""
    readers = [
        lambda: [record.joints.tolist() for record in read_coco(annotations, images, BODYPOSE_18)],
        lambda: [
            record.joints.tolist() for record in checked_coco(annotations, images, BODYPOSE_18)[0]
        ],
        lambda: len(open_split(annotations, images, None).images),
    ]
    found: list[object] = []
    for read in readers:
        try:
            found.append(read())
        except PoseError as error:
            found.append(str(error))
    lines = [line for line in found if isinstance(line, str)]
    assert all(len(line.splitlines()) == 1 and len(line) < 1000 for line in lines)
    return found


# What names annotations, or a spec that does.
ANNOTATION_OPTIONS = (
    "--annotations",
    "--annotation-file",
    "--gate-annotations",
    "--check-annotations",
)
TAKING = {
    str(command): command
    for command in commands()
    if command.params_named(*ANNOTATION_OPTIONS, "--experiment-spec")
}
# The arguments beside the annotations. No network is there, so that none is loaded: what comes
# after the annotations is one line, too.
BESIDE = {
    "tools train": "-e {spec} -r {new}/run",
    "tools profile-input": "-e {spec}",
    "tools retrain": "-e {spec} -m no.keras -r {new}/run",
    "tools optimize": "-e {spec} -m no.keras -r {new}/run --no-export",
    "tools prune": "-e {spec} -m no.keras -o {new}/pruned.keras --importance taylor",
    "tools evaluate": "no.keras -a {json} -i {img}",
    "tools oracle": "-a {json} -i {img} -d 64,64,3",
    "tools tune-grouping": "no.keras -a {json} -i {img}",
    "tools export": "-m no.onnx --data_type int8 --gate-annotations {json} --gate-images {img}",
    "tools adopt": "no.onnx --check-annotations {json} --images {img} -o {new}/adopted.onnx",
    "tools sample-calibration-images": "-a {json} -i {img} -n 1 -o {new}/sample",
    "tools gate": "no.onnx no2.onnx -a {json} -i {img}",
    "tools benchmark": "no.onnx -a {json} -i {img} -o {new}/benchmark.json",
    "tools compare-quantisers": "no.onnx -a {json} -i {img} --cal-image-dir . -q onnxruntime"
    " -o {new}/quantisers.json",
    "tools compare-modes": "no.keras -a {json} -i {img}",
    "tools compare-sizes": "no.keras -a {json} -i {img} -d 64,64,3",
    "pose-client evaluate": "-a {json} -i {img} --url grpc://127.0.0.1:1/none --timeout 0.1",
}
# Lines that are about what is beside good annotations.
AFTERWARDS = ("no.keras", "no.onnx", "pretrained_weights", "127.0.0.1:1")


def asked(name: str, annotations: Path, images: Path, new: Path, *options: str) -> str:
    """The line of a command about a COCO file; "" when it is content with it."""
    new.mkdir(parents=True, exist_ok=True)
    spec = new / "spec.yaml"
    split = {"annotation_path": str(annotations), "images_root_dir_path": str(images)}
    dataset = {"root_data_path": "/", "train_data": split, "val_data": split}
    described = {"dataloader": {"dataset_config": dataset}, "pretrained_weights": "no.keras"}
    spec.write_text(yaml.safe_dump({**described, "num_epoch": 1}))
    places = {"spec": spec, "json": annotations, "img": images, "new": new}
    arguments = [each.format(**places) for each in BESIDE[name].split()]
    return line_of(TAKING[name], [*arguments, *options])


def check(name: str, case: Path, images: Path, new: Path, *flags: str) -> None:
    """That a command takes a COCO file, or refuses it in the words of every other reader."""
    read = outcomes(case, images)[0]
    line = asked(name, case, images, new, *flags)
    about_the_file = line and not any(each in line for each in AFTERWARDS)
    if isinstance(read, str) and any(each in read for each in IN_THE_FILE):
        assert about_the_file, (case.name, read)
        assert line.split(": ", 1)[1] in read, (case.name, line)
    elif isinstance(read, list) and case.stem != "windows_paths":
        assert not about_the_file, (case.name, line)
