"""Request bodies, built before the clock starts so that building them is never measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bodypose_client.wire import http_body
from bodypose_client.wire.address import Address, Protocol
from bodypose_client.wire.tensor_bytes import wire_bytes


@dataclass(frozen=True, slots=True)
class Body:
    """One inference request as it goes over the wire; `headers` are for HTTP only."""

    content: bytes
    headers: Mapping[str, str]


def request_body(address: Address, image: bytes) -> Body:
    """The request for the people of one encoded image."""
    tensor = np.array([[image]], np.object_)
    if address.protocol is Protocol.GRPC:
        from tritonclient.grpc import service_pb2

        message = service_pb2.ModelInferRequest(
            model_name=address.model, model_version=address.version
        )
        message.inputs.add(name="image", datatype="BYTES", shape=tensor.shape)
        message.raw_input_contents.append(wire_bytes(tensor))
        return Body(message.SerializeToString(), {})
    return Body(*http_body.request_body({"image": tensor}))
