"""The check that each Python model still answers; Triton does not notice a hung one.

Each model gets a request that it refuses without computing, and that no metric counts:
preprocessing an empty image, the others an image whose deadline has passed. A refusal shows that
the model runs. On a busy server the request waits behind images, so its silence counts only when no
image has moved on meanwhile and the model does not compute.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bodypose_tools.repository.pbtxt import data_type_name, read_config
from pose_runtime.admission import Admission
from pose_runtime.spec import NUMPY_DTYPES

# Together less than the 15 s in which a hung model is to be noticed.
_EVERY_S, _SILENCE_S = 3.0, 9.0
# Triton's answer for a model whose process gave no sign for a second, such as a stopped one.
_NO_SIGN = b"is not healthy"
_BETWEEN_S = 0.3
_IDLE = 0.05  # of a core: less than any model uses while it computes
_PASSED_DEADLINE = (1, 1)  # a place that nobody has, and the first nanosecond of the clock

Headers = Mapping[str, str]


class Pulse:
    """Asks every Python model of one tritonserver process until `close`.

    Args:
        url: of its HTTP endpoint, `host:port`.
        folder: that it serves.
        models: names of the Python models.
        places: of its images.
        computed_s: processor time that the process of a model has used so far, in seconds.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        models: tuple[str, ...],
        places: Admission,
        computed_s: Callable[[str], float],
    ) -> None:
        self._url, self._places, self._computed_s = url, places, computed_s
        self._closed = threading.Event()
        self._silent: set[str] = set()
        for model in models:
            question = question_to(folder / model / "config.pbtxt")
            beat = threading.Thread(target=self._ask, args=(model, *question), daemon=True)
            beat.start()

    @property
    def silent(self) -> str | None:
        """A model that has not answered for `_SILENCE_S`; None when all do."""
        return min(self._silent, default=None)

    def close(self) -> None:
        self._closed.set()

    def _ask(self, model: str, body: bytes, headers: Headers) -> None:
        while not self._closed.wait(_EVERY_S):
            computed_s, asked_ns = self._computed_s(model), time.monotonic_ns()
            while not self._answers(model, body, headers):
                if self._closed.wait(_BETWEEN_S) or self._places.moved_ns > asked_ns:
                    break
                if time.monotonic_ns() - asked_ns > _SILENCE_S * 1e9:
                    computed_s = self._computed_s(model) - computed_s
                    if computed_s < _IDLE * _SILENCE_S or self._places.count():
                        self._silent.add(model)
                    break

    def _answers(self, model: str, body: bytes, headers: Headers) -> bool:
        """False when no answer came in time; a dead server is noticed elsewhere."""
        connection = http.client.HTTPConnection(self._url, timeout=_SILENCE_S)
        try:
            connection.request("POST", f"/v2/models/{model}/infer", body, dict(headers))
            return _NO_SIGN not in connection.getresponse().read()
        except TimeoutError:
            return False
        except (OSError, http.client.HTTPException):
            return True
        finally:
            connection.close()


def question_to(config: Path) -> tuple[bytes, Headers]:
    """Body and headers of a request that a model refuses without computing.

    Args:
        config: its config.pbtxt.
    """
    inputs: list[dict[str, Any]] = []
    data = []
    for tensor in read_config(config).input:
        dtype, shape = data_type_name(tensor.data_type), (1, *tensor.dims)
        array: Any = np.zeros(shape, NUMPY_DTYPES[dtype])
        if tensor.name == "place":
            array[:] = _PASSED_DEADLINE
        data.append(bytes(4) if dtype == "BYTES" else array.tobytes())  # a text of length 0
        inputs.append(
            {
                "name": tensor.name,
                "datatype": dtype,
                "shape": shape,
                "parameters": {"binary_data_size": len(data[-1])},
            }
        )
    header = json.dumps({"inputs": inputs}).encode()
    return header + b"".join(data), {"Inference-Header-Content-Length": str(len(header))}


def is_hung(url: str, seconds: float) -> bool:
    """Whether the server at `url` takes connections and says nothing for so long."""
    connection = http.client.HTTPConnection(url, timeout=seconds)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/v2/health/live")
            connection.getresponse()
        except TimeoutError:
            return True
        except (OSError, http.client.HTTPException):
            return False
    return False
