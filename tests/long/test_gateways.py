"""Three servers behind a gateway, of which one stops or is killed under load: who loses what."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import grpc
import pytest
from tritonclient.grpc import InferenceServerClient, service_pb2, service_pb2_grpc

from bodypose_client.errors import ServerBusy
from bodypose_client.pose_client import PoseClient
from bodypose_tools.repository.pbtxt import ENSEMBLE, NETWORK, PREPROCESS
from tests.gateways import gateway
from tests.giving_up import image_tensor
from tests.greys import grey_png, urls_in
from tests.processes import free_ports, processes_of, until_ready

pytestmark = pytest.mark.triton

DRAIN_S = 4
# What a plain client, which does not ask again, loses behind HAProxy when a server is killed: at
# most the requests that this server had, of which each of its 6 callers has one.
LOST_AT_A_KILL = 6


@pytest.fixture
def servers(serve) -> list[tuple[subprocess.Popen[str], dict[str, str]]]:
    options = (*free_ports()[:-1], str(DRAIN_S))
    started = [serve(*options) for _ in range(3)]
    return [(process, urls_in(until_ready(process))) for process in started]


@pytest.fixture(scope="module", params=["envoy", "haproxy"])
def before_one(request, server, repository, tmp_path_factory) -> Iterator[tuple[str, str]]:
    """The name and the host:port of a gateway before a server that nobody ends."""
    urls = {"HTTP": server.http_url, "gRPC": server.grpc_url}
    with gateway(request.param, [urls], repository, tmp_path_factory.mktemp("gate")) as netloc:
        yield request.param, netloc


@contextmanager
def default_client(netloc: str, protocol: str) -> Iterator[Callable[[], object]]:
    image = grey_png(99)
    with PoseClient(f"{protocol}://{netloc}", timeout_s=20) as client:
        yield lambda: client.infer(image)


@contextmanager
def plain_client(netloc: str) -> Iterator[Callable[[], object]]:
    tensor = image_tensor(grey_png(99))
    with InferenceServerClient(netloc) as client:
        yield lambda: client.infer(ENSEMBLE, [tensor], client_timeout=20)


def outcomes_while(
    asks: Mapping[str, Callable[[], object]], happens: Callable[[], None]
) -> dict[str, Counter[str]]:
    """What 6 callers of each kind, without a pause, were told: 2 s before, and 8 s after it."""
    seen: dict[str, Counter[str]] = {kind: Counter() for kind in asks}
    end = threading.Event()

    def go_on(kind: str) -> None:
        told = seen[kind]
        while not end.is_set():
            try:
                asks[kind]()
                told["answered"] += 1
            except ServerBusy:  # full, which is no loss
                told["full"] += 1
            except Exception as error:  # a loss, whatever it is
                told[f"{type(error).__name__}: {error}"] += 1

    callers = [threading.Thread(target=go_on, args=(kind,)) for kind in asks for _ in range(6)]
    for caller in callers:
        caller.start()
    time.sleep(2)
    happens()
    time.sleep(8)
    end.set()
    for caller in callers:
        caller.join()
    return seen


def terminate(process: subprocess.Popen[str]) -> None:
    process.terminate()


def kill(process: subprocess.Popen[str]) -> None:
    """As when the machine is gone: the server first, and nobody who starts it again."""
    triton = processes_of(process, "tritonserver")
    process.kill()
    for pid in triton:
        os.kill(pid, signal.SIGKILL)


def lost(seen: Counter[str]) -> int:
    return sum(count for how, count in seen.items() if how not in ("answered", "full"))


@pytest.mark.parametrize("end", [terminate, kill])
@pytest.mark.parametrize("name", ["envoy", "haproxy"])
def test_clients_lose_nothing_but_a_plain_one_behind_haproxy_at_a_kill(
    servers, repository, tmp_path_factory, name, end, record_property
):
    """Ours by both protocols and a plain one, at the same time."""
    folder, urls = tmp_path_factory.mktemp(name), [urls for _, urls in servers]
    with (
        gateway(name, urls, repository, folder) as netloc,
        default_client(netloc, "grpc") as by_grpc,
        default_client(netloc, "http") as by_http,
        plain_client(netloc) as plain,
    ):
        asks = {"gRPC": by_grpc, "HTTP": by_http, "plain": plain}
        seen = outcomes_while(asks, lambda: end(servers[0][0]))

    record_property("lost", lost(seen["plain"]))
    assert min(told["answered"] for told in seen.values()) > 100, seen
    assert lost(seen["gRPC"]) == lost(seen["HTTP"]) == 0, seen
    most = LOST_AT_A_KILL if (name, end) == ("haproxy", kill) else 0
    assert lost(seen["plain"]) <= most, seen


def infer_message(*models: str, images: int = 1) -> bytes:
    """A ModelInferRequest with several names, one after the other: the last one counts."""
    request = service_pb2.ModelInferRequest()
    tensor = request.inputs.add(name="image", datatype="BYTES", shape=[images, 1])
    assert tensor is not None
    image = grey_png(99)
    request.raw_input_contents.append(len(image).to_bytes(4, "little") + image)
    names = [service_pb2.ModelInferRequest(model_name=model) for model in models]
    first, *others = (each.SerializeToString() for each in names)
    return first + request.SerializeToString() + b"".join(others)


def grpc_answer(netloc: str, message: bytes, **options: object) -> str:
    with grpc.insecure_channel(netloc) as channel:
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            ask(message, timeout=10, **options)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def http_status(netloc: str, method: str, path: str, body: bytes = b"", described: int = 0) -> int:
    connection = http.client.HTTPConnection(netloc, timeout=30)
    try:
        headers = {"Inference-Header-Content-Length": str(described)} if body else {}
        connection.request(method, path, body or None, headers)
        return connection.getresponse().status
    except ConnectionError:
        return 413  # closed while the body was being sent
    finally:
        connection.close()


def test_a_gateway_lets_nobody_name_a_step_or_open_another_api(before_one):
    name, netloc = before_one
    image = grey_png(99)

    assert grpc_answer(netloc, infer_message(ENSEMBLE)) == "OK"
    for step in (PREPROCESS, NETWORK, f"{ENSEMBLE}_"):
        assert grpc_answer(netloc, infer_message(step)) == "PERMISSION_DENIED"
    hidden = [infer_message(ENSEMBLE, PREPROCESS)] if name == "envoy" else []
    for message in (*hidden, infer_message(PREPROCESS, ENSEMBLE), b"\xff" * 30):
        assert grpc_answer(netloc, message) == "PERMISSION_DENIED"
    gzip = grpc_answer(netloc, infer_message(PREPROCESS), compression=grpc.Compression.Gzip)
    assert gzip == "PERMISSION_DENIED"

    assert http_status(netloc, "POST", f"/v2/models/{ENSEMBLE}/infer", image) == 200
    assert http_status(netloc, "GET", "/v2/health/ready") == 200
    assert http_status(netloc, "GET", f"/v2/models/{ENSEMBLE}/config") == 200
    for path in (
        f"/v2/models/{PREPROCESS}/infer",
        f"/v2/models/{ENSEMBLE}/../{PREPROCESS}/infer",
        f"/v2/models/{ENSEMBLE}%2F..%2F{PREPROCESS}/infer",
        f"//v2/models/{PREPROCESS}/infer",
        "/v2/repository/index",
        "/v2/systemsharedmemory/status",
        f"/v2/models/{ENSEMBLE}/generate",
    ):
        assert http_status(netloc, "POST", path, image) in (400, 403, 404)
    with grpc.insecure_channel(netloc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError):
            stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=10)


def infer_body(shape: str, key: str = "shape") -> tuple[bytes, int]:
    """A request by HTTP with one image, and the length of its description."""
    image = grey_png(99)
    size = len(image) + 4
    described = (
        f'{{"inputs":[{{"name":"image","{key}":{shape},"datatype":"BYTES",'
        f'"parameters":{{"binary_data_size":{size}}}}}]}}'
    ).encode()
    return described + len(image).to_bytes(4, "little") + image, len(described)


def test_a_gateway_refuses_a_batch_that_triton_would_take_for_one_image(before_one):
    name, netloc = before_one
    path = f"/v2/models/{ENSEMBLE}/infer"

    assert grpc_answer(netloc, infer_message(ENSEMBLE, images=1)) == "OK"
    assert grpc_answer(netloc, infer_message(ENSEMBLE, images=8)) == "INVALID_ARGUMENT"
    for images in (0, 2**40, 2**32 + 1):
        assert grpc_answer(netloc, infer_message(ENSEMBLE, images=images)) == "PERMISSION_DENIED"

    assert http_status(netloc, "POST", path, *infer_body("[1,1]")) == 200
    hidden = [infer_body("[0,1]", key="\\u0073hape")] if name == "envoy" else []  # see haproxy.cfg
    for body in (*map(infer_body, ("[0,1]", "[ 0, 1 ]", f"[{2**40},1]")), *hidden):
        assert http_status(netloc, "POST", path, *body) == 400


def test_a_gateway_refuses_bodies_over_the_limit(before_one):
    name, netloc = before_one
    path = f"/v2/models/{ENSEMBLE}/infer"

    assert http_status(netloc, "POST", path, bytes(18 * 2**20)) == 413
    if name == "envoy":  # see haproxy.cfg
        large = service_pb2.ModelInferRequest(model_name=ENSEMBLE)
        large.raw_input_contents.append(bytes(18 * 2**20))
        assert grpc_answer(netloc, large.SerializeToString()) not in ("OK", "INVALID_ARGUMENT")
    assert grpc_answer(netloc, infer_message(ENSEMBLE)) == "OK"
