"""What TensorRT's inspector says of an engine; the JSON is shaped as NVIDIA documents it."""

import json

from bodypose_tools.engines.inspector import int8_layers_that_fell_back, layer_counts


def convolution(name: str, weights: str, **more: str) -> dict:
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "x", "Dimensions": [-1, 16, 8, 8]}],
        "ParameterType": "Convolution",
        "Weights": {"Type": weights, "Count": 2304},
        **more,
    }


REFORMAT = {"Name": "Reformatting CopyNode", "LayerType": "Reformat", "Origin": "QDQ"}
GENERATED = {"Name": "__myl_Fc_0", "LayerType": "kgen", "Metadata": "[ONNX Layer: c]"}


def text(*layers: dict | str) -> str:
    return json.dumps({"Layers": layers, "Bindings": ["pixels", "peaks"]})


def test_layers_are_counted_by_kind():
    built = text(convolution("a", "Int8"), convolution("b", "Float"), REFORMAT)
    assert layer_counts(built) == {"CaskConvolution": 2, "Reformat": 1}


def test_a_fused_layer_with_int8_weights_is_what_was_asked_for():
    built = text(convolution("a + relu_1", "Int8"), convolution("head", "Float"), GENERATED)
    assert int8_layers_that_fell_back(built, ["a", "c"]) == []


def test_a_quantised_layer_with_float_weights_fell_back():
    built = text(convolution("a + relu_1", "Float"), convolution("b", "Int8"))
    assert int8_layers_that_fell_back(built, ["a", "b"]) == ["a"]


def test_the_onnx_name_may_stand_in_the_metadata_only():
    built = text(convolution("__fused_7", "Half", Metadata="[ONNX Layer: a]\x1e[ONNX Layer: r]"))
    assert int8_layers_that_fell_back(built, ["a"]) == ["a"]


def test_a_name_that_only_begins_alike_is_another_layer():
    built = text(convolution("conv_10 + relu", "Float"), convolution("conv_1", "Int8"))
    assert int8_layers_that_fell_back(built, ["conv_1"]) == []


def test_an_engine_that_says_names_only_accuses_nobody():
    assert int8_layers_that_fell_back(text("a + relu", "b"), ["a"]) == []
