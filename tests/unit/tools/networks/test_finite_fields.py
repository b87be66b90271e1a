"""NaN or infinity in any field that is used reaches `peaks`, whatever runs the graph."""

from pathlib import Path

import keras
import numpy as np
import pytest

from bodypose_tools.networks.decoding import DecodeSettings, decode_fields
from bodypose_tools.networks.fields import Fields
from bodypose_tools.runtimes.cpu import onnx_session, openvino_core
from pose_runtime.skeleton import BODYPOSE_18

SHAPES = {
    "heatmaps": (24, 32, 19),
    "affinity": (12, 16, 38),
    "centre": (24, 32, 1),
    "offsets": (24, 32, 36),
}


@pytest.fixture(scope="module")
def decoder() -> keras.Model:
    inputs = [keras.Input(shape, name=name) for name, shape in SHAPES.items()]
    fields = Fields((inputs[0],), (inputs[1],), inputs[2], inputs[3])
    return keras.Model(
        inputs, list(decode_fields(fields, BODYPOSE_18, DecodeSettings(), (96, 128)))
    )


@pytest.fixture(scope="module")
def onnx_file(decoder, tmp_path_factory) -> Path:
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec((None, *shape), name=name) for name, shape in SHAPES.items()]
    function = tf.function(lambda *fields: decoder(list(fields)), input_signature=signature)
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    tf2onnx.convert.from_function(function, signature, opset=17, output_path=str(path))
    return path


@pytest.fixture(scope="module", params=["keras", "onnxruntime", "openvino"])
def peaks_of(request, decoder, onnx_file):
    if request.param == "keras":
        return lambda fields: np.asarray(decoder.predict_on_batch(list(fields.values()))[0])
    if request.param == "onnxruntime":
        session = onnx_session(onnx_file)
        return lambda fields: session.run(None, fields)[0]
    pytest.importorskip("openvino", reason="install the extra that brings OpenVINO")
    network = openvino_core().compile_model(onnx_file, "CPU")
    return lambda fields: next(iter(network(fields).values()))


def two_images() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {name: random.random((2, *shape), dtype=np.float32) for name, shape in SHAPES.items()}


def test_finite_fields_give_finite_peaks(peaks_of):
    assert np.isfinite(peaks_of(two_images())).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0), (7, 9, 0), (-1, -1, 0)])
@pytest.mark.parametrize("name", SHAPES)
def test_what_is_not_finite_reaches_the_peaks_of_its_image(peaks_of, name, place, number):
    fields = two_images()
    fields[name][(1, *place)] = number
    peaks = peaks_of(fields)
    assert np.isfinite(peaks[0]).all()
    assert not np.isfinite(peaks[1]).any()
