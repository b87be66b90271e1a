"""The client against a real server: both protocols, good and bad images, many at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_client import cli
from bodypose_client.blocking import run
from bodypose_client.errors import ModelNotFound, RequestRejected
from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.access import Access
from bodypose_client.wire.connect import connect
from bodypose_client.wire.connection import Model, Request
from bodypose_client.wire.deadline import Deadline
from bodypose_tools.repository.build import build_repository
from bodypose_tools.server.embedded import embedded_server
from pose_runtime.spec import PipelineSpec
from tests.tiny_network import SIZED

pytestmark = pytest.mark.triton


@pytest.fixture(params=["grpc", "http"])
def url(request, server):
    base = {"grpc": server.grpc_url, "http": server.http_url}[request.param]
    address = base.split("://")[-1].split("/")[0]
    return f"{request.param}://{address}"


@pytest.fixture
def client(url):
    with PoseClient(url) as client:
        yield client


@pytest.fixture(scope="module")
def photo():
    """RGB pixels with some structure, so that every file format has work to do."""
    rows, columns = np.mgrid[:120, :160]
    return np.stack([rows, columns, rows + columns], axis=2).astype(np.uint8)


def encoded(photo, suffix):
    return cv2.imencode(suffix, cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1].tobytes()


def test_the_pipeline_comes_from_the_ensemble(client):
    assert client.spec.model_sha256
    assert client.model.version.isdigit()
    assert client.skeleton.num_joints == client.spec.keypoints.dims[1]


def test_lossless_forms_of_a_photo_have_the_same_people(client, photo, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(photo, ".png"))

    answers = [client.infer(form) for form in (photo, path, str(path), encoded(photo, ".bmp"))]

    for answer in answers[1:]:
        assert np.array_equal(answer.keypoints, answers[0].keypoints)
        assert np.array_equal(answer.scores, answers[0].scores)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory, tiny_onnx):
    """A server whose network finds five people, the best last, of whom three may be answered."""
    spec = PipelineSpec(network_hw=(32, 48), max_peaks=6, max_people=3)
    folder = tmp_path_factory.mktemp("crowd")
    build_repository(tiny_onnx(folder / "tiny.onnx", spec, people=5), folder / "repository")
    with embedded_server(folder / "repository") as running:
        yield running


def test_people_are_best_first_and_within_limits(crowd, photo):
    with PoseClient(f"grpc://{crowd.grpc_url}") as client:
        poses = client.infer(photo)

    assert poses.scores.tolist() == pytest.approx([0.9 * SIZED, 0.8 * SIZED, 0.7 * SIZED])
    lower = poses.keypoints[:, 0, 1]
    assert (np.diff(lower) < 0).all()  # the best stands lowest: rows and scores belong together
    assert poses.keypoints[..., 2] == pytest.approx(poses.scores[:, None].repeat(18, 1) / SIZED)


def test_both_protocols_give_the_same_people(server, photo):
    answers = []
    for scheme, base in (("grpc", server.grpc_url), ("http", server.http_url)):
        with PoseClient(f"{scheme}://{base.split('://')[-1].split('/')[0]}") as client:
            answers.append(client.infer(photo))

    assert np.array_equal(answers[0].keypoints, answers[1].keypoints)


def test_a_batch_gives_what_single_requests_give(client, photo):
    photos = [photo, photo[:, ::-1].copy(), photo[:60]]

    together = client.infer_batch(photos)

    for alone, batched in zip(map(client.infer, photos), together, strict=True):
        assert np.array_equal(alone.keypoints, batched.keypoints)


def test_a_bad_image_harms_nobody_else(client, photo):
    good = encoded(photo, ".jpg")
    expected = client.infer(good)

    def ask(data):
        try:
            return client.infer(data)
        except RequestRejected as error:
            return str(error)

    questions = [good, b"hello", good, good[: len(good) // 2], good, b""] * 4
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(ask, questions))

    for question, answer in zip(questions, answers, strict=True):
        if question is good:
            assert np.array_equal(answer.keypoints, expected.keypoints)
        else:
            assert answer.startswith("image: expected")
            assert "\n" not in answer


def test_a_client_serves_many_threads(client, photo):
    expected = client.infer(photo).keypoints

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(client.infer, [photo] * 64))

    assert all(np.array_equal(answer.keypoints, expected) for answer in answers)


def test_an_absent_model_is_named(url):
    with pytest.raises(ModelNotFound, match="unknown model"):
        PoseClient(f"{url}/nobody")


def test_a_wrong_tensor_is_rejected(client):
    connection = connect(client.address, Access())
    wrong = {"picture": np.array([[b"x"]], np.object_)}
    try:
        with pytest.raises(RequestRejected, match="unexpected inference input"):
            run(connection.infer(Request(Model("bodypose"), wrong, Deadline.after(5))))
    finally:
        run(connection.close())


def test_the_command_answers_good_and_bad_images(url, photo, tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(encoded(photo, ".jpg"))
    bad.write_bytes(b"hello")

    result = CliRunner().invoke(
        cli.app,
        ["infer", str(bad), str(good), "--url", url, "--json", "--visualize", str(tmp_path / "o")],
    )

    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {bad}: image: expected")
    (line,) = result.stdout.splitlines()
    assert json.loads(line)["image"] == {"id": "good.jpg", "width": 160, "height": 120}
    assert (tmp_path / "o" / "good.jpg").is_file()
