"""What goes over the wire, and what the known server makes of it."""

import json

import cv2
import pytest
from tritonclient.grpc import service_pb2

from bodypose_client.wire.address import Address
from bodypose_client.wire.connection import Model
from bodypose_client.wire.http_messages import model_path
from bodypose_loadtest.errors import PlanError
from bodypose_loadtest.generator.bodies import request_body
from bodypose_loadtest.images import SIZES, in_several_sizes, load_images
from bodypose_loadtest.known_server import Behaviour, Queue


def test_a_grpc_body_is_a_whole_message():
    body = request_body(Address.parse("grpc://h:1/bodypose/3"), b"image")

    message = service_pb2.ModelInferRequest.FromString(body.content)
    assert (message.model_name, message.model_version) == ("bodypose", "3")
    assert message.raw_input_contents[0] == b"\x05\0\0\0image"
    assert list(message.inputs[0].shape) == [1, 1]


def test_an_http_body_asks_for_binary_answers():
    address = Address.parse("http://h:1/bodypose/3")

    body = request_body(address, b"image")

    head = int(body.headers["inference-header-content-length"])
    described = json.loads(body.content[:head])
    assert described["parameters"]["binary_data_output"] is True
    assert body.content[head:] == b"\x05\0\0\0image"
    assert model_path(Model("bodypose", "3")) == "/v2/models/bodypose/versions/3"


def test_generated_images_are_the_same_for_a_seed(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    one, two = (load_images(None, tmp_path / folder, seed=5) for folder in ("one", "two"))

    assert [i.path.read_bytes() for i in one] == [i.path.read_bytes() for i in two]
    assert cv2.imread(str(one[0].path)).shape == (480, 640, 3)
    assert 30_000 < one[0].path.stat().st_size < 300_000  # about as heavy as a photo


def test_mixed_sends_each_image_in_every_size(tmp_path):
    [image, *_] = load_images(None, tmp_path, seed=0)

    resized = in_several_sizes([image], tmp_path)

    assert [max(cv2.imread(str(each.path)).shape) for each in resized] == [
        longer for longer, _ in SIZES.values()
    ]
    assert sum(each.weight for each in resized) == 10


def test_mixed_refuses_what_is_no_image(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no")

    with pytest.raises(PlanError, match="expected an image"):
        in_several_sizes(load_images(tmp_path, tmp_path, seed=0), tmp_path)


def test_the_known_server_serves_so_many_at_once_in_order():
    queue = Queue(Behaviour(1.0, 2))

    assert [queue.done_at(5.0)[0] for _ in range(5)] == [6, 6, 7, 7, 8]
    assert queue.done_at(20.0)[0] == 21


def test_the_known_server_stalls_and_fails_as_told():
    queue = Queue(Behaviour(1.0, 1, error_every=2, stall_at_s=10, stall_s=5))

    assert queue.done_at(0.0) == (1.0, True)
    assert queue.done_at(8.5) == (9.5, False)
    assert queue.done_at(9.5) == (16.0, True)  # it would have been in service at 10
    assert queue.done_at(17.0) == (18.0, False)
