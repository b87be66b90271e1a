"""A server whose network takes its time, and senders of which a third do not wait for it."""

from __future__ import annotations

import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
from tritonclient import grpc

from bodypose_tools.repository.pbtxt import ENSEMBLE, NETWORK
from bodypose_tools.server.embedded import EmbeddedServer
from pose_runtime.admission import Admission, places_file
from pose_runtime.integrity import write_manifest
from tests.greys import grey_png

IMAGE_S = 0.05
_SLOW = """

import time

_execute = TritonPythonModel.execute


def _slow_execute(self, requests):
    time.sleep(IMAGE_S * len(requests))
    return _execute(self, requests)


TritonPythonModel.execute = _slow_execute
"""


def with_slow_network(repository: Path, copy: Path, *, batching: bool) -> Path:
    """The repository with a network that takes `IMAGE_S` for each request, one after the other."""
    shutil.copytree(repository, copy)
    version = copy / NETWORK / "1"
    model = version / "model.py"
    model.write_text(model.read_text() + _SLOW.replace("IMAGE_S", str(IMAGE_S)))
    write_manifest(version)
    if batching:
        config = copy / NETWORK / "config.pbtxt"
        config.write_text(config.read_text() + "dynamic_batching {\n}\n")
    return copy


def places_of(server: EmbeddedServer) -> Admission:
    """The places that the server's models count."""
    environment = Path(f"/proc/{server.pid}/environ").read_bytes().decode().split("\0")
    (folder,) = (each.removeprefix("TMPDIR=") for each in environment if each[:7] == "TMPDIR=")
    return Admission(Path(folder) / places_file(server.pid))


def image_tensor(*images: bytes) -> grpc.InferInput:
    tensor = grpc.InferInput("image", [len(images), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[image] for image in images], np.object_))
    return tensor


class Senders:
    """Threads that ask; 15 % of their requests are cancelled soon, 15 % have a short deadline."""

    def __init__(self, url: str, threads: int = 8) -> None:
        self.answered = 0
        self.given_up = 0
        self.refused: list[str] = []  # what those who waited were told
        self._url = url
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(threads)]

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        self._end.wait(seconds)
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        draw = random.Random(seed)
        tensor = image_tensor(grey_png(99))
        with grpc.InferenceServerClient(self._url) as client:
            while not self._end.is_set():
                kind = draw.random()
                done = threading.Event()
                outcome: list[object] = []

                def answered(result: object, error: object, outcome=outcome, done=done) -> None:
                    outcome.append(error)
                    done.set()

                patience = 0.1 if kind < 0.15 else 30
                call = client.async_infer(
                    ENSEMBLE, [tensor], callback=answered, client_timeout=patience
                )
                if 0.15 <= kind < 0.3:
                    time.sleep(0.1)
                    call.cancel()
                done.wait()
                if kind < 0.3:
                    self.given_up += 1
                elif outcome[0] is None:
                    self.answered += 1
                else:
                    self.refused.append(str(outcome[0]))
