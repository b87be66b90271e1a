"""The values that the files of `deploy/` share, each from the one place that knows it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bodypose_tools.repository.build import (
    built_by,
    changes_since_build,
    serving_of_repository,
    spec_of,
    version_in_use,
)
from bodypose_tools.repository.pbtxt import ENSEMBLE, PREPROCESS
from bodypose_tools.repository.settings import NetworkBackend, ServerTarget
from bodypose_tools.server.bounds import bounds_of
from bodypose_tools.server.command import CLOSED_APIS, COMMON_OPTIONS
from bodypose_tools.server.settings import DEFAULT_PORTS
from bodypose_tools.server.wheel import STEPS_ENVIRONMENT
from pose_runtime.errors import PoseError

from . import settings
from .settings import Access

# What a request has beside its image: names, shapes, JSON.
_ENVELOPE_BYTES: Final = 2**20
_WINDOW = f"{4 * settings.SCRAPE_S}s"  # four scrapes: a rate needs two, and one may be lost
_IMAGES: Final = f"sum(rate(pose_images_total[{_WINDOW}]))"
# An ensemble never queues: what an image waits is the sum over the steps.
WAIT_QUERY: Final = (
    f'sum(rate(nv_inference_queue_duration_us{{model=~"{ENSEMBLE}_.+"}}[{_WINDOW}])) / 1000'
    f" / ({_IMAGES} > 0)"
)
# Refused images never wait: images asked for by images answered.
DEMAND_QUERY: Final = (
    f'1 + (sum(rate(pose_rejected_images_total{{reason="full"}}[{_WINDOW}])) or vector(0))'
    f" / ({_IMAGES} > 0)"
)
_DIGEST: Final = re.compile(r".+@sha256:[0-9a-f]{64}")
_SERVER: Final = re.compile(r"(?P<host>[A-Za-z0-9.-]+)(:(?P<http>\d{1,5}):(?P<grpc>\d{1,5}))?")
_VERSION: Final = re.compile(r"\d+(\.\w+)*")
_GPU_RESOURCE: Final = re.compile(r"[a-z0-9.-]+/[A-Za-z0-9._-]+")
_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._/:-]*")


class DeployError(PoseError):
    """A deployment would not do what its files say."""


@dataclass(frozen=True, slots=True)
class Server:
    """One address behind the gateway; a name may stand for several."""

    host: str
    http: int | str = DEFAULT_PORTS.http
    grpc: int | str = DEFAULT_PORTS.grpc

    @classmethod
    def parse(cls, text: str) -> Server:
        """Raises: DeployError: not HOST or HOST:HTTP_PORT:GRPC_PORT."""
        if (found := _SERVER.fullmatch(text)) is None:
            raise DeployError(
                f"--server: expected HOST or HOST:HTTP_PORT:GRPC_PORT, got {text!a:.60}"
            )
        if found["http"] is None:
            return cls(found["host"])
        return cls(found["host"], int(found["http"]), int(found["grpc"]))


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the gateway is told besides the repository's values.

    requests_per_s: of one token, through one gateway; open access has no such limit.
    port: where it listens; a text in the chart, whose own value it is.
    memory_mib: of Envoy, a quarter of which is not for requests.
    """

    servers: tuple[Server, ...]
    access: Access = Access.TOKEN
    requests_per_s: int = settings.REQUESTS_PER_S
    host: str = "0.0.0.0"
    port: int | str = settings.GATEWAY_PORT
    memory_mib: int = settings.GATEWAY_MIB


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a person says of a deployment; the rest is in the repository.

    server_image: repository of the image of the Dockerfile, without a tag.
    models_image: image of the models by its digest; empty: not known yet.
    gpu_resource: Kubernetes' name of a GPU or of a slice of one.
    servers: behind the gateway; empty: those of the files beside it.
    """

    server_image: str = "bodypose-triton"
    models_image: str = ""
    gpu_resource: str = "nvidia.com/gpu"
    servers: tuple[Server, ...] = ()
    access: Access = Access.TOKEN
    requests_per_s: int = settings.REQUESTS_PER_S

    def __post_init__(self) -> None:
        if self.models_image and not _DIGEST.fullmatch(self.models_image):
            raise DeployError(
                "--models-image: expected an image by its digest, NAME@sha256:...,"
                f" got {self.models_image!a:.80}"
            )
        if not _IMAGE.fullmatch(self.server_image) or ":" in self.server_image.split("/")[-1]:
            raise DeployError(
                f"--image: expected a repository without a tag, got {self.server_image!a:.80};"
                " the tag is the version's"
            )
        if not _GPU_RESOURCE.fullmatch(self.gpu_resource):
            raise DeployError(
                "--gpu-resource: expected a name such as nvidia.com/gpu,"
                f" got {self.gpu_resource!a:.60}"
            )


@dataclass(frozen=True, slots=True)
class Values:
    """Names of `deploy/`'s placeholders with what stands for them, and the blocks that hold."""

    target: ServerTarget
    texts: dict[str, str]
    blocks: frozenset[str]


def values_of(repository: Path, deployment: Deployment) -> Values:
    """The values of a repository and of what a person said.

    Raises:
        DeployError: the embedded server would be open to a network, or the repository changed.
        PoseError: the repository or its record cannot be read.
    """
    if changes := changes_since_build(repository):
        raise DeployError(changes[0])
    serving = serving_of_repository(repository)
    embedded = serving.target is ServerTarget.EMBEDDED
    if embedded and deployment.access is Access.OPEN:
        raise DeployError(
            "--access: expected token for the embedded server, which has published"
            " vulnerabilities (docs/security.md), got open; build for a stock container with"
            " `tools build-repo --target cpu`"
        )
    on_gpu = serving.target is ServerTarget.GPU
    python_models = sum(1 for model in repository.iterdir() if any(model.glob("*/model.py")))
    shared_mib = bounds_of(repository).region_bytes * python_models >> 20
    start_s = settings.START_ON_GPU_S if on_gpu else settings.START_S
    version = built_by(repository)
    if not _VERSION.fullmatch(version):
        raise DeployError(f"{repository}: expected a release such as 0.2.0, got {version!a:.40}")
    ports = DEFAULT_PORTS
    texts = {
        "repository": repository.name,
        "name": ENSEMBLE,
        "preprocess": PREPROCESS,
        "version": version,
        "tag": f"{version}-triton{serving.triton}",
        "base_image": serving.triton.image,
        "server_image": deployment.server_image,
        "models_image": deployment.models_image,
        "envoy_image": f"envoyproxy/envoy:v{settings.ENVOY}",
        "envoy": settings.ENVOY,
        **{name.replace("-", "_"): version for name, version in settings.PINNED.items()},
        "temporary": settings.TEMPORARY,
        "models_mount": settings.MODELS_MOUNT,
        "uid": str(settings.UID),
        "http_port": str(ports.http),
        "grpc_port": str(ports.grpc),
        "metrics_port": str(ports.metrics),
        "gateway_mib": str(settings.GATEWAY_MIB),
        "gateway_port": str(settings.GATEWAY_PORT),
        "closed_apis": ",".join(CLOSED_APIS),
        "environment": " ".join(f"{name}={value}" for name, value in STEPS_ENVIRONMENT.items()),
        "common_options": " ".join(COMMON_OPTIONS),
        "gpu_resource": deployment.gpu_resource,
        "gpu_count": str(int(on_gpu)),
        "shared_memory": f"{shared_mib}Mi",
        "shared_memory_bytes": str(shared_mib << 20),
        "drain_s": str(settings.DRAIN_S),
        "exit_timeout_s": str(settings.EXIT_TIMEOUT_S),
        "grace_s": str(settings.GRACE_S),
        "start_s": str(start_s),
        "start_tries": str(start_s // 5),
        "target_wait_ms": str(settings.TARGET_WAIT_MS),
        "scale_down_s": str(settings.SCALE_DOWN_S),
        "scrape_s": str(settings.SCRAPE_S),
        "prometheus_url": settings.PROMETHEUS_URL,
        "wait_query": WAIT_QUERY,
        "demand_query": DEMAND_QUERY,
        "oldest_kubernetes": settings.OLDEST_KUBERNETES,
        "first_image_volumes": settings.FIRST_IMAGE_VOLUMES,
    } | limits_of(repository)
    blocks = {
        "gpu": on_gpu,
        "no_gpu": not on_gpu,
        "pytorch": on_gpu and serving.backend is NetworkBackend.PYTHON,
    }
    return Values(serving.target, texts, frozenset(name for name, on in blocks.items() if on))


def limits_of(repository: Path) -> dict[str, str]:
    """The limits of the version that answers, as a gateway holds them.

    Raises:
        PoseError: a description of the pipeline cannot be read.
    """
    limits = spec_of(repository, version_in_use(repository)).limits
    return {"max_request_bytes": str(limits.max_bytes + _ENVELOPE_BYTES)}


def gateway_values(gateway: Gateway) -> tuple[dict[str, str], frozenset[str]]:
    """Texts and blocks of the gateway's files."""
    texts = {
        "listen_host": gateway.host,
        "listen_port": str(gateway.port),
        "gateway_heap_bytes": str(gateway.memory_mib * 2**20 * 3 // 4),
        "requests_per_s": str(gateway.requests_per_s),
        "burst": str(2 * gateway.requests_per_s),
        "http_endpoints": _endpoints([(each.host, each.http) for each in gateway.servers]),
        "grpc_endpoints": _endpoints([(each.host, each.grpc) for each in gateway.servers]),
        "haproxy_grpc": _haproxy(gateway.servers, grpc=True),
        "haproxy_http": _haproxy(gateway.servers, grpc=False),
    }
    return texts, frozenset({str(gateway.access)})


def _endpoints(addresses: Sequence[tuple[str, int | str]]) -> str:
    return ", ".join(
        f"{{endpoint: {{address: {{socket_address: {{address: {host}, port_value: {port} }}}}}}}}"
        for host, port in addresses
    )


def _haproxy(servers: Sequence[Server], *, grpc: bool) -> str:
    lines = [
        f"server server{number} {each.host}:{each.grpc} proto h2 check check-proto h1"
        f" port {each.http}"
        if grpc
        else f"server server{number} {each.host}:{each.http} check"
        for number, each in enumerate(servers, 1)
    ]
    return "\n    ".join(lines)
