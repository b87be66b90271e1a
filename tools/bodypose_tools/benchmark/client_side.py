"""The usual division of work, measured: Triton runs the network, a Python client the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from bodypose_tools.repository.pbtxt import NETWORK
from bodypose_tools.results.ratios import in_turns, paired_ratio
from bodypose_tools.server.embedded import EmbeddedServer
from bodypose_tools.server.load import Ask, closed_loop, grpc_asks, grpc_stub, image_request
from pose_runtime.grouping import people_in_image
from pose_runtime.images import letterbox_pixels
from pose_runtime.spec import PipelineSpec, TensorSpec

from .conditions import Setting

ROUNDS = 8  # of what takes turns with a server; two readings may be far off


def measure(
    setting: Setting, server: EmbeddedServer, jpeg: bytes, clients: int, seconds: float
) -> dict[str, Any]:
    """Images/s of both ways in turns, on the same server and cores, and their ratio."""
    rates: dict[str, list[float]] = {"ensemble": [], "client_side": []}
    with grpc_stub(server.grpc_url) as stub:
        sides: dict[str, Callable[[], Ask]] = {
            "ensemble": grpc_asks(stub, image_request(jpeg)),
            "client_side": _client_side_asks(stub, jpeg, setting.spec),
        }
        for number in range(ROUNDS):
            for name in in_turns(list(sides), number):
                load = closed_loop(sides[name], clients, seconds)
                rates[name].append(load.per_second)
    medians = {name: round(float(np.median(rate)), 2) for name, rate in rates.items()}
    return {
        "images_per_s": medians,
        "times_as_fast": paired_ratio(rates["ensemble"], rates["client_side"]).to_json(),
        "request_bytes": {
            "ensemble": len(jpeg),
            "client_side": int(np.prod(setting.spec.pixels.dims)),
        },
    }


def _client_side_asks(stub: Any, jpeg: bytes, spec: PipelineSpec) -> Callable[[], Ask]:
    """OpenCV's decoding and our letterbox, the network by gRPC, our grouping: all in the client."""

    def ask() -> bool:
        decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        image = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
        pixels, letterbox = letterbox_pixels(image, spec.network_hw)
        request = service_pb2.ModelInferRequest(model_name=NETWORK)
        dims = [1, *spec.pixels.dims]
        request.inputs.add(name=spec.pixels.name, datatype=spec.pixels.dtype, shape=dims)
        request.raw_input_contents.append(pixels.tobytes())
        answer = stub.ModelInfer(request)
        peaks, limb_scores = (_output(answer, tensor) for tensor in (spec.peaks, spec.limb_scores))
        people_in_image(peaks, limb_scores, letterbox.to_geometry(), spec)
        return True

    return lambda: ask


def _output(answer: Any, tensor: TensorSpec) -> NDArray[np.float32]:
    index = [output.name for output in answer.outputs].index(tensor.name)
    values = np.frombuffer(answer.raw_output_contents[index], np.float32)
    return values.reshape(tensor.dims)
