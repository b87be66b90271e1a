from dataclasses import replace

import cv2
import numpy as np
import pytest

from bodypose_client.blocking import as_coroutine
from bodypose_client.errors import ClientClosed, FileError, NotAPoseModel, RequestRejected
from bodypose_client.pose_client import PoseClient, ServedModel
from bodypose_client.wire.connection import Connection, ModelInfo
from pose_runtime.errors import ContractError, SpecError
from pose_runtime.poses import Poses
from pose_runtime.spec import ImageLimits, PipelineSpec

URL = "grpc://127.0.0.1:8001/bodypose"


def top_left_pixel(spec):
    """An "answer" that tells which pixels arrived: joint 0 of one person is (R, G) and B / 255."""

    def answer(pixels):
        keypoints = np.zeros((1, spec.skeleton.num_joints, 3), np.float32)
        keypoints[0, 0] = pixels[0, 0] / (1, 1, 255)
        return Poses(keypoints, np.float32([0.5]))

    return answer


def test_any_form_of_an_image_gives_the_same_people(fake_server, spec, tmp_path):
    pixels = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(4, 5, 3) + 60
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    client = PoseClient(URL, connect=fake_server(top_left_pixel(spec)))

    for image in (path, str(path), path.read_bytes(), pixels, pixels[:, ::1]):
        found = client.infer(image).keypoints[0, 0]
        assert found.tolist() == pytest.approx([60, 61, 62 / 255])


@pytest.mark.parametrize("max_bytes", [10, 10_000])
def test_pixels_travel_without_loss_within_the_limit_of_bytes(fake_server, spec, max_bytes):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    served = replace(spec, limits=ImageLimits(max_bytes=max_bytes))
    arrived = []

    def answer(image):
        arrived.append(image)
        return Poses.empty(spec.skeleton.num_joints)

    PoseClient(URL, connect=fake_server(answer, served, ImageLimits())).infer(pixels)

    assert np.array_equal(arrived[0], pixels)


def test_padding_is_cut_off(fake_server, spec, one_person):
    client = PoseClient(URL, connect=fake_server(one_person))

    poses = client.infer(np.zeros((20, 30, 3), np.uint8))

    assert (len(poses), poses.scores.tolist()) == (1, [0.5])
    assert poses.keypoints[0, 0].tolist() == [15, 1, 0.5]


def test_a_batch_is_one_request(fake_server, spec, one_person):
    requests = []
    inner = fake_server(one_person)(None, 1.0)

    async def infer(request):
        requests.append(request.inputs[spec.image.name].shape)
        return await inner.infer(request)

    client = PoseClient(URL, connect=lambda *_: Connection(infer, inner.describe))
    poses = client.infer_batch([np.zeros((8, width, 3), np.uint8) for width in (4, 6, 8)])

    assert requests == [(3, 1)]
    assert [float(found.keypoints[0, 0, 0]) for found in poses] == [2, 3, 4]
    assert client.infer_batch([]) == []


def test_a_stream_keeps_order(fake_server, one_person):
    client = PoseClient(URL, connect=fake_server(one_person))
    images = (np.zeros((8, width, 3), np.uint8) for width in range(2, 40, 2))

    found = [float(poses.keypoints[0, 0, 0]) for poses in client.infer_stream(images, in_flight=3)]

    assert found == list(range(1, 20))


def test_the_pipeline_comes_from_the_server(fake_server, spec, one_person):
    with PoseClient(URL, connect=fake_server(one_person)) as client:
        assert client.spec == spec
        assert client.skeleton == spec.skeleton
        assert client.model == ServedModel("bodypose", "3", "ab" * 32)
        assert repr(client) == "PoseClient('grpc://127.0.0.1:8001/bodypose')"


def test_the_connection_is_closed_at_the_end(fake_server, one_person):
    closed = []
    inner = fake_server(one_person)(None, 1.0)
    connection = replace(inner, close=as_coroutine(lambda: closed.append(True)))

    with PoseClient(URL, connect=lambda *_: connection):
        assert closed == []
    assert closed == [True]


@pytest.mark.parametrize(
    ("parameters", "error"), [({}, NotAPoseModel), ({"pipeline": "{}"}, SpecError)]
)
def test_a_model_that_is_not_ours_is_named_and_left(parameters, error):
    closed = []
    connection = Connection(
        infer=pytest.fail,
        describe=as_coroutine(lambda model, deadline: ModelInfo(("1",), parameters)),
        close=as_coroutine(lambda: closed.append(True)),
    )

    with pytest.raises(error, match="expected"):
        PoseClient(URL, connect=lambda *_: connection)
    assert closed == [True]


def test_what_is_no_image_is_refused_before_it_travels(fake_server, tmp_path):
    client = PoseClient(URL, connect=fake_server(pytest.fail))

    with pytest.raises(FileError, match="No such file"):
        client.infer(tmp_path / "absent.jpg")
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ContractError, match="RGB pixels"):
            client.infer(wrong)


def test_the_servers_words_about_a_bad_image_come_through(fake_server):
    client = PoseClient(URL, connect=fake_server(pytest.fail))

    with pytest.raises(RequestRejected, match=r"got 5 bytes starting with b'hello'"):
        client.infer(b"hello")


def test_an_answer_of_another_shape_is_named(spec):
    info = ModelInfo(("1",), {"pipeline": spec.to_json()})
    outputs = {spec.keypoints.name: np.zeros((1, 4, 17, 3), np.float32)}
    connection = Connection(
        as_coroutine(lambda request: outputs), as_coroutine(lambda model, deadline: info)
    )
    client = PoseClient(URL, connect=lambda *_: connection)

    with pytest.raises(ContractError, match=r"keypoints: expected FP32 \(batch, 4, 18, 3\)"):
        client.infer(b"x")
    outputs[spec.keypoints.name] = np.zeros((1, 4, 18, 3), np.float32)
    with pytest.raises(ContractError, match="scores: expected an output"):
        client.infer(b"x")


def test_a_custom_skeleton_works_unchanged(fake_server, spec):
    skeleton = replace(
        spec.skeleton,
        name="stick",
        joints=("top", "bottom"),
        limbs=((0, 1),),
        mirror=(0, 1),
        sigmas=(0.1, 0.1),
        annotated=(0, 1),
        midpoints=(),
    )
    served = PipelineSpec(skeleton=skeleton)
    person = Poses(np.float32([[[1, 2, 0.5], [3, 4, 0.5]]]), np.float32([0.5]))
    client = PoseClient(URL, connect=fake_server(lambda pixels: person, served))

    assert client.infer(np.zeros((4, 4, 3), np.uint8)).keypoints.tolist() == [
        [[1, 2, 0.5], [3, 4, 0.5]]
    ]


def test_a_closed_client_answers_no_more(fake_server, one_person):
    client = PoseClient(URL, connect=fake_server(one_person))
    client.close()
    client.close()

    with pytest.raises(ClientClosed, match="expected an open client"):
        client.infer(b"x")


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_deadline_that_is_over_is_refused(fake_server, one_person, timeout_s):
    with pytest.raises(ContractError, match="timeout_s: expected more than 0 seconds"):
        PoseClient(URL, connect=fake_server(one_person), timeout_s=timeout_s)
    with (
        PoseClient(URL, connect=fake_server(one_person)) as client,
        pytest.raises(ContractError, match="timeout_s"),
    ):
        client.infer(np.zeros((4, 4, 3), np.uint8), timeout_s=timeout_s)
