"""The bodies of inference over HTTP: a JSON header, then raw tensors.

KServe v2's binary tensor data extension:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/extension_binary_data.md
tritonclient's own version of it needs gevent and 17 MB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import deserialize_bytes_tensor, triton_to_np_dtype

from .connection import InRegion, Tensors
from .tensor_bytes import wire_bytes, wire_dtype

HEADER_LENGTH = "inference-header-content-length"


def request_body(
    inputs: Mapping[str, NDArray[np.generic] | InRegion], timeout_us: int | None = None
) -> tuple[bytes, dict[str, str]]:
    """The request for all outputs, as raw tensors, and the headers that describe its body.

    Args:
        inputs: by name.
        timeout_us: after which the server may drop the request from its queue, in microseconds.
    """
    described, content = [], []
    for name, tensor in inputs.items():
        if isinstance(tensor, InRegion):
            dtype = tensor.dtype
            parameters: dict[str, Any] = {
                "shared_memory_region": tensor.region,
                "shared_memory_byte_size": tensor.byte_size,
            }
        else:
            dtype = wire_dtype(tensor)
            content.append(wire_bytes(tensor))
            parameters = {"binary_data_size": len(content[-1])}
        shape = list(tensor.shape)
        described.append(
            {"name": name, "shape": shape, "datatype": dtype, "parameters": parameters}
        )
    asked = {"binary_data_output": True, **({"timeout": timeout_us} if timeout_us else {})}
    header = json.dumps({"inputs": described, "parameters": asked}).encode()
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return b"".join((header, *content)), headers


def tensors_in(body: bytes, headers: Mapping[str, str]) -> Tensors:
    """The outputs by name, in their shapes; raw ones in the order of the JSON header.

    Args:
        body: of the whole answer.
        headers: its headers, names in lower case.

    Raises:
        ValueError, KeyError, TypeError: this is no answer to an inference request.
    """
    length = int(headers.get(HEADER_LENGTH, len(body)))
    tensors: dict[str, NDArray[Any]] = {}
    start = length
    for output in json.loads(body[:length])["outputs"]:
        dtype, shape = triton_to_np_dtype(output["datatype"]), output["shape"]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(output["data"], dtype)
        elif output["datatype"] == "BYTES":
            array = deserialize_bytes_tensor(body[start : start + size])
        else:
            array = np.frombuffer(body[start : start + size], dtype)
        start += size or 0
        tensors[output["name"]] = array.reshape(shape)
    return tensors
