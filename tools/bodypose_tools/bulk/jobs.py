"""What all workers of a run are told: by what they find people, and where the parts go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bodypose_client.pose_client import PoseClient
from bodypose_client.wire.access import Tls
from bodypose_client.wire.retries import PATIENT
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.runtimes.predictors import ENGINE_SUFFIXES
from bodypose_tools.runtimes.settings import GraphRuntime
from pose_runtime.extras import require

from .part_files import Origin
from .settings import GPU_BATCH, GPU_THREADS
from .sources import Part

_ON_GPU: Final = (GraphRuntime.CUDA, GraphRuntime.CUDA_F32)
_NEEDS: Final = {
    GraphRuntime.ONNX_RUNTIME: "onnxruntime",
    GraphRuntime.OPENVINO: "openvino",
    GraphRuntime.OPENVINO_BF16: "openvino",
    GraphRuntime.CUDA: "torch",
    GraphRuntime.CUDA_F32: "torch",
}


@dataclass(frozen=True, slots=True)
class Network:
    """A network in the worker's own process.

    threads: of the CPU: the network's, or those that decode ahead of a GPU.
    batch: number of images that the network gets at once.
    """

    model: Path
    runtime: GraphRuntime
    threads: int
    batch: int
    on_gpu: bool

    @property
    def decoders(self) -> int:
        """As in `people_in`."""
        return self.threads if self.on_gpu else 0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is asked; a full or absent one is asked again until `timeout_s`."""

    url: str
    in_flight: int
    timeout_s: float
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    threads = 1
    on_gpu = False


@dataclass(frozen=True, slots=True)
class Job:
    """What all workers of a run are told.

    folder: of the part files.
    model, model_sha256, runtime, min_score: as in `Origin`.
    """

    by: Network | Server
    folder: Path
    model: str
    model_sha256: str
    runtime: str
    min_score: float

    def origin(self, part: Part) -> Origin:
        """What the part's file is made of."""
        return Origin(part.sha256, self.model, self.model_sha256, self.runtime, self.min_score)


def network_job(
    model: Path,
    runtime: GraphRuntime,
    folder: Path,
    min_score: float,
    threads: int | None = None,
    batch: int | None = None,
) -> Job:
    """The job of workers that each have the network.

    Args:
        model: a .onnx, .plan or .keras file.
        runtime: of an .onnx file.
        folder: of the part files.
        min_score: lowest score of a person that is written.
        threads: CPU threads of a worker; None: 1, or 4 before a GPU.
        batch: images that the network gets at once; None: 1, or 8 on a GPU.

    Raises:
        MissingPackage: the runtime is not installed.
        MissingArtifactError, StaleArtifactError: no such file, or it changed after it was made.
    """
    is_engine = model.suffix in ENGINE_SUFFIXES
    if model.suffix == ".onnx":
        require("onnx", _NEEDS[runtime])
    on_gpu = is_engine or (model.suffix == ".onnx" and runtime in _ON_GPU)
    network = Network(
        model.absolute(),
        runtime,
        threads or (GPU_THREADS if on_gpu else 1),
        batch or (GPU_BATCH if on_gpu else 1),
        on_gpu,
    )
    named = str(runtime) if model.suffix == ".onnx" else model.suffix.removeprefix(".")
    sha256 = Artifact.open(model).sha256
    return Job(network, folder.absolute(), model.name, sha256, named, min_score)


def server_job(server: Server, folder: Path, min_score: float) -> Job:
    """The job of workers that ask a server.

    Raises:
        ClientError: the server does not answer, or serves no pose model.
    """
    with client_of(server) as client:
        served = client.model
    return Job(server, folder.absolute(), served.name, served.sha256, "server", min_score)


def client_of(server: Server) -> PoseClient:
    """A client that goes on asking until the server's `timeout_s`."""
    return PoseClient(
        server.url,
        timeout_s=server.timeout_s,
        retries=PATIENT,
        tls=Tls(server.ca_file) if server.ca_file else None,
        token=server.token,
    )
