"""Places of images under way on a real server: who takes one, and when it is free again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.retries import NO_RETRIES
from bodypose_tools.repository.pbtxt import GROUPING, MAX_IMAGES_UNDER_WAY, NETWORK, PREPROCESS
from bodypose_tools.server.embedded import EmbeddedServer, embedded_server
from tests.figures import figures
from tests.giving_up import Senders, image_tensor, places_of, with_slow_network
from tests.greys import grey_png
from tests.processes import wait_for
from tests.serving import SPEC

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module", params=["one by one", "batched"])
def slow_server(request, repository, tmp_path_factory) -> Iterator[EmbeddedServer]:
    folder = tmp_path_factory.mktemp("slow") / "repository"
    with_slow_network(repository, folder, batching=request.param == "batched")
    with embedded_server(folder) as server:
        yield server


def test_senders_that_give_up_leave_no_place_taken(slow_server):
    senders = Senders(slow_server.grpc_url)

    senders.run(10)

    assert senders.given_up > 10
    assert senders.answered > 30
    assert senders.refused == []
    wait_for(lambda: places_of(slow_server).count() == 0, seconds=3)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_has_passed_its_deadline_is_not_computed_and_leaves_its_place(slow_server, protocol):
    places, image = places_of(slow_server), grey_png(99)
    before = figures(slow_server)

    def ask(timeout_s: float) -> None:
        url = f"{protocol}://{getattr(slow_server, f'{protocol}_url')}"
        with PoseClient(url, timeout_s=timeout_s, retries=NO_RETRIES) as client:
            try:
                client.infer(image)
                answered.append(timeout_s)
            except Exception:  # one that is late
                late.append(timeout_s)

    answered: list[float] = []
    late: list[float] = []
    callers = [threading.Thread(target=ask, args=(s,)) for s in [30] * 8 + [0.15] * 12]
    for caller in callers:
        caller.start()
        time.sleep(0.005)
    for caller in callers:
        caller.join()

    assert answered.count(30) == 8
    key = 'pose_rejected_images_total{reason="cancelled"}'
    wait_for(lambda: figures(slow_server)[key] - before[key] > 3, seconds=3)
    wait_for(lambda: places.count() == 0, seconds=3)


@pytest.mark.parametrize("outputs", [(), ("pixels",), ("pixels", "geometry")])
def test_callers_of_preprocessing_itself_take_no_place(slow_server, by_grpc, outputs):
    before = figures(slow_server)
    with grpc.InferenceServerClient(slow_server.grpc_url) as client:
        asked = [grpc.InferRequestedOutput(name) for name in outputs] or None
        for _ in range(MAX_IMAGES_UNDER_WAY // 8):
            client.infer(PREPROCESS, [image_tensor(*[grey_png(99)] * 8)], outputs=asked)
        with pytest.raises(InferenceServerException):
            client.infer(PREPROCESS, [image_tensor(b"no image")], outputs=asked)

    assert places_of(slow_server).count() == 0
    assert figures(slow_server) == before
    by_grpc(slow_server, grey_png(99))


def test_who_takes_places_as_the_ensemble_does_holds_them_for_a_second(slow_server, by_grpc):
    places = places_of(slow_server)
    asked = [grpc.InferRequestedOutput(name) for name in ("pixels", "geometry", "place")]
    with grpc.InferenceServerClient(slow_server.grpc_url) as client:
        for _ in range(MAX_IMAGES_UNDER_WAY // 8):
            client.infer(PREPROCESS, [image_tensor(*[grey_png(99)] * 8)], outputs=asked)
    assert places.count() == MAX_IMAGES_UNDER_WAY

    wait_for(lambda: places.count() == 0, seconds=1.5)
    by_grpc(slow_server, grey_png(99))


def grouping_inputs(place: int | None) -> list[grpc.InferInput]:
    arrays = {
        "peaks": np.full((1, *SPEC.peaks.dims), np.nan, np.float32),
        "limb_scores": np.zeros((1, *SPEC.limb_scores.dims), np.float32),
        "geometry": np.array([[32, 48, 1, 0, 0]], np.float32),
    }
    if place is not None:
        arrays["place"] = np.array([[place, 0]], np.int64)
    tensors = []
    for name, array in arrays.items():
        dtype = "INT64" if name == "place" else "FP32"
        tensors.append(grpc.InferInput(name, array.shape, dtype))
        tensors[-1].set_data_from_numpy(array)
    return tensors


@pytest.mark.parametrize("place", [None, 0, 4097])
def test_callers_of_grouping_itself_free_no_place_and_raise_no_alarm(slow_server, place):
    before, places = figures(slow_server), places_of(slow_server)
    mine = places.take(3, limit=64)
    with grpc.InferenceServerClient(slow_server.grpc_url) as client:
        for _ in range(5):
            with pytest.raises(InferenceServerException, match="expected finite numbers"):
                client.infer(GROUPING, grouping_inputs(place))

    assert places.count() == 3
    places.give_back(mine)
    assert figures(slow_server) == before


def test_callers_of_the_network_itself_are_answered_and_not_counted(slow_server):
    before = figures(slow_server)
    pixels = grpc.InferInput("pixels", [1, *SPEC.pixels.dims], "UINT8")
    pixels.set_data_from_numpy(np.zeros((1, *SPEC.pixels.dims), np.uint8))
    with grpc.InferenceServerClient(slow_server.grpc_url) as client:
        client.infer(NETWORK, [pixels])

    assert figures(slow_server) == before
