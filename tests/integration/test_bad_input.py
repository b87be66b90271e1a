"""Whatever bytes arrive: a right answer or one line for that request, and the server goes on.

The network of these tests (`tiny_onnx`) puts joint 0 at (1 + the pixels' mean, 2) in every image.
"""

from __future__ import annotations

import base64
import http.client
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from bodypose_tools.repository.pbtxt import ENSEMBLE
from tests.tiny_network import SIZED

pytestmark = pytest.mark.triton

SCALE = 0.8  # of a 60 x 40 image in the network's 48 x 32
GREY = 20  # dark: joint 0 of a brighter image would lie beyond its edge


def encoded(extension: str, *shape: int, grey: int = GREY) -> bytes:
    return cv2.imencode(extension, np.full(shape, grey, np.uint8))[1].tobytes()


def with_exif_rotation(jpeg: bytes) -> bytes:
    """Orientation 6: a camera held upright; the stored rows are the picture's columns."""
    tiff = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 6, 0)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes that would unpack to width x height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def png_with_a_huge_chunk() -> bytes:
    """OpenCV alone would clear 4 GB for it before it looks for the chunk."""
    png = encoded(".png", 40, 60, 3)
    length_at = png.index(b"IDAT") - 4
    return png[:length_at] + struct.pack(">I", 0xF0000000) + png[length_at + 4 :]


def bmp_claiming(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + header + b"\0" * 100


JPEG = encoded(".jpg", 40, 60, 3)
RGBA = np.full((40, 60, 4), (GREY, GREY, GREY, 10), np.uint8)
ANSWERED = {
    "a JPEG": JPEG,
    "a PNG with alpha": cv2.imencode(".png", RGBA)[1].tobytes(),
    "a grayscale JPEG": encoded(".jpg", 40, 60),
    "a JPEG with EXIF rotation": with_exif_rotation(encoded(".jpg", 60, 40, 3)),
    "a BMP": encoded(".bmp", 40, 60, 3),
    "a WebP": encoded(".webp", 40, 60, 3),
}
REFUSED = {
    "a truncated JPEG": (JPEG[: len(JPEG) - 100], "image: expected a whole JPEG, got"),
    "half a JPEG header": (JPEG[:100], "image: expected a whole JPEG, got"),
    "a truncated PNG": (
        encoded(".png", 40, 60, 3)[:60],
        "image: expected a whole PNG, got",
    ),
    "an empty payload": (b"", "image: expected JPEG, PNG, WebP or BMP bytes"),
    "a text file": (b"Dear server,\nno picture today.\n", "image: expected JPEG, PNG, WebP or BMP"),
    "a PNG bomb": (png_claiming(20_000, 20_000), "image: expected at most 40000000 pixels"),
    "a BMP bomb": (bmp_claiming(20_000, 20_000), "image: expected at most 40000000 pixels"),
    "a PNG with a chunk of 4 GB": (png_with_a_huge_chunk(), "bytes that end too early"),
    "a BMP without an end": (bmp_claiming(600, 400), "image: expected a whole BMP"),
}


@pytest.fixture(autouse=True)
def server_still_ready(server):
    yield
    connection = http.client.HTTPConnection(server.http_url, timeout=30)
    for path in ("/v2/health/ready", *(f"/v2/models/{model}/ready" for model in server.models)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert (path, response.status) == (path, http.client.OK)
    connection.close()


@pytest.mark.parametrize("name", ANSWERED)
def test_an_unusual_image_gets_the_right_answer(server, ask, name):
    poses = ask(server, ANSWERED[name])

    assert len(poses) == 1
    assert poses.keypoints[0, 0] == pytest.approx([(1 + GREY) / SCALE, 2 / SCALE, 0.9], abs=1.3)
    assert poses.scores[0] == pytest.approx(0.9 * SIZED)


def test_a_single_pixel_gets_the_right_answer(server, ask):
    poses = ask(server, encoded(".png", 1, 1, 3))

    # Enlarged 32 times, with padding on both sides. The peak lies in the one to the right, so the
    # joint is at the picture's edge.
    expected_xy = [1, 2 / 32]
    assert poses.keypoints[0, 0, :2] == pytest.approx(expected_xy, abs=0.01)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_gets_one_line(server, ask, refused, name):
    data, complaint = REFUSED[name]

    with pytest.raises(refused) as caught:
        ask(server, data)

    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_bad_images_do_not_disturb_good_ones_beside_them(server, by_grpc, refused):
    def answer(image: bytes) -> float | str:
        try:
            return float(by_grpc(server, image).keypoints[0, 0, 0])
        except refused as error:
            return str(error)

    bad = [data for data, _ in REFUSED.values()]
    images = [image for index in range(8) for image in (JPEG, bad[index])]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(answer, images))

    for image, got in zip(images, answers, strict=True):
        if image is JPEG:
            assert got == pytest.approx((1 + GREY) / SCALE, abs=0.01)
        else:
            assert "image: expected" in str(got)


def test_one_bad_image_of_a_larger_request_is_named(server):
    from tritonclient import grpc
    from tritonclient.utils import InferenceServerException

    tensor = grpc.InferInput("image", [3, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[JPEG], [JPEG], [b"?"]], np.object_))
    with (
        grpc.InferenceServerClient(server.grpc_url) as client,
        pytest.raises(InferenceServerException, match=r"batch index 2 \(of 0\.\.2\): image: "),
    ):
        client.infer(ENSEMBLE, [tensor])


def test_a_larger_request_is_answered_in_its_order(server):
    from tritonclient import grpc

    greys = [10, 40, 25, 30, 5]
    tensor = grpc.InferInput("image", [len(greys), 1], "BYTES")
    images = [[encoded(".png", 40, 60, 3, grey=grey)] for grey in greys]
    tensor.set_data_from_numpy(np.array(images, np.object_))
    with grpc.InferenceServerClient(server.grpc_url) as client:
        keypoints = client.infer(ENSEMBLE, [tensor]).as_numpy("keypoints")

    expected = [(1 + grey) / SCALE for grey in greys]
    assert keypoints[:, 0, 0, 0].tolist() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("protocol", ["json", "http", "grpc"])
@pytest.mark.parametrize("images", [2, 8, 9, 2**31, 2**32 - 1])
def test_a_number_of_images_that_did_not_come_is_refused(server, protocol, images):
    with pytest.raises(Wrong, match=r"string elements .* got 1$|batch-size must be <= 8"):
        asked(server, images, protocol)


# Triton's core keeps a batch size in 32 bits and takes 0 for 1 before any model sees the request;
# an ensemble that counts its images itself (max_batch_size 0) could not be asked with a raw body.
@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("images", [0, 2**40, 2**32 + 1])
def test_a_batch_that_triton_takes_for_one_image_is_answered_as_one(server, protocol, images):
    people, keypoints = asked(server, images, protocol)

    assert people == [1]
    assert keypoints[:2] == pytest.approx([(1 + GREY) / SCALE, 2 / SCALE], abs=1.3)


@pytest.mark.parametrize("protocol", ["json", "http", "grpc"])
def test_a_batch_without_images_is_refused(server, protocol):
    with pytest.raises(Wrong, match=r"expected 1 string elements .* got 0"):
        asked(server, 0, protocol, binary=b"")


class Wrong(Exception):
    """The server refused it as the sender's fault."""


def asked(
    server, images: int, protocol: str, binary: bytes = struct.pack("<I", len(JPEG)) + JPEG
) -> tuple[list[int], list[float]]:
    """People and keypoints for a request that has one image, or none, and claims `images`."""
    if protocol == "grpc":
        return _asked_by_grpc(server, images, binary)
    tensor = {"name": "image", "shape": [images, 1], "datatype": "BYTES"}
    headers = {}
    if protocol == "json":
        tensor["data"] = [base64.b64encode(binary[4:]).decode()] if binary else []
        body = json.dumps({"inputs": [tensor]}).encode()
    else:
        tensor["parameters"] = {"binary_data_size": len(binary)}
        outputs = [{"name": name} for name in ("num_people", "keypoints")]
        described = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
        headers = {"Inference-Header-Content-Length": str(len(described))}
        body = described + binary
    connection = http.client.HTTPConnection(server.http_url, timeout=30)
    connection.request("POST", f"/v2/models/{ENSEMBLE}/infer", body, headers)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    if response.status == http.client.BAD_REQUEST:
        raise Wrong(answer["error"])
    data = {output["name"]: output["data"] for output in answer["outputs"]}
    return data["num_people"], data["keypoints"]


def _asked_by_grpc(server, images: int, binary: bytes) -> tuple[list[int], list[float]]:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
    request.inputs.add(name="image", datatype="BYTES", shape=[images, 1])
    request.raw_input_contents.append(binary)
    with grpc.insecure_channel(server.grpc_url) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            answer = stub.ModelInfer(request, timeout=30)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise Wrong(error.details()) from error
            raise
    data = dict(zip((o.name for o in answer.outputs), answer.raw_output_contents, strict=True))
    keypoints = np.frombuffer(data["keypoints"], np.float32)
    return np.frombuffer(data["num_people"], np.int32).tolist(), keypoints.tolist()
