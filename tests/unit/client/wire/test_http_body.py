"""Our bodies are those of NVIDIA's client, byte for byte where it counts."""

import json

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput

from bodypose_client.wire.connection import InRegion
from bodypose_client.wire.http_body import HEADER_LENGTH, request_body, tensors_in

IMAGES = np.array([[b"first"], [b"the second"]], np.object_)
PIXELS = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)


def parts(body, length):
    return json.loads(body[: int(length)]), body[int(length) :]


@pytest.mark.parametrize(("array", "dtype"), [(IMAGES, "BYTES"), (PIXELS, "UINT8")])
def test_a_request_is_that_of_the_official_client(array, dtype):
    official = InferInput("image", array.shape, dtype).set_data_from_numpy(array)
    theirs, json_size = InferenceServerClient.generate_request_body([official], timeout=7)

    body, headers = request_body({"image": array}, timeout_us=7)

    assert parts(body, headers[HEADER_LENGTH]) == parts(theirs, json_size)


def test_tensors_in_shared_memory_are_named_and_not_sent():
    region = InRegion("ours", 20, "BYTES", (2, 1))
    official = InferInput("image", [2, 1], "BYTES").set_shared_memory("ours", 20)
    theirs, _ = InferenceServerClient.generate_request_body([official])

    body, headers = request_body({"image": region})

    assert json.loads(body) == json.loads(theirs)
    assert headers[HEADER_LENGTH] == str(len(body))


def answer(outputs, *content):
    header = json.dumps({"outputs": outputs}).encode()
    return b"".join((header, *content)), {HEADER_LENGTH: str(len(header))}


def output(name, datatype, shape, size):
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def test_raw_outputs_are_read_in_their_order():
    scores = np.array([[0.5, 0.25]], np.float32)
    texts = b"\x02\x00\x00\x00hi\x01\x00\x00\x00!"
    body, headers = answer(
        [output("texts", "BYTES", [2], len(texts)), output("scores", "FP32", [1, 2], 8)],
        texts,
        scores.tobytes(),
    )

    read = tensors_in(body, headers)

    assert read["texts"].tolist() == [b"hi", b"!"]
    np.testing.assert_array_equal(read["scores"], scores)


def test_outputs_in_json_are_read_too():
    body, _ = answer([{"name": "n", "datatype": "INT32", "shape": [1, 1], "data": [3]}])
    (read,) = tensors_in(body, {}).values()
    assert (read.tolist(), read.dtype) == ([[3]], np.int32)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        b'{"outputs": [{"name": "n"}]}',
        b'{"outputs": [{"name": "n", "datatype": "FP32", "shape": [2], "data": [1]}]}',
    ],
)
def test_what_is_no_answer_is_an_error_that_is_told_apart(body):
    with pytest.raises((ValueError, KeyError, TypeError)):
        tensors_in(body, {})


def test_an_answer_that_was_cut_short_is_an_error():
    body, headers = answer([output("n", "FP32", [4], 16)], b"\0" * 12)
    with pytest.raises(ValueError, match="cannot reshape"):
        tensors_in(body, headers)
