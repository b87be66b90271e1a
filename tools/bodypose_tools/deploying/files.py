"""The files of `deploy/` with their values, written where a person deploys from.

A placeholder is `@{name}`; a block between `# if NAME` and `# end` stays when NAME holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Final

from bodypose_client.files.output_file import check_can_write
from bodypose_tools.files.artifacts import record_path, refuse_foreign_folder, sha256_of
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.files.json_records import write_record
from bodypose_tools.files.shipped import DEPLOY
from bodypose_tools.repository.pbtxt import ENSEMBLE
from bodypose_tools.repository.settings import ServerTarget
from pose_runtime.errors import SpecError

from .settings import ENVOY, Access
from .values import Deployment, Gateway, Server, Values, gateway_values, limits_of, values_of

_STAGE: Final = "deploy-files"
_PLACEHOLDER: Final = re.compile(r"@\{(\w+)\}")
_BLOCK: Final = re.compile(r"^[ \t]*# if (\w+)\n(.*?)^[ \t]*# end\n", re.MULTILINE | re.DOTALL)
_EXECUTABLE: Final = ("serve.sh", "alive.py")
# A person fills it in, so it is written once.
TOKENS: Final = "gateway/access.yaml"
_TRUSTED: Final = "gateway/haproxy.cfg"  # has no tokens
_GATEWAY: Final = "gateway/*"
_MONITORING: Final = ("prometheus/rules.yaml", "prometheus/dashboard.json")
_FILES_OF: Final[Mapping[ServerTarget, tuple[str, ...]]] = {
    ServerTarget.EMBEDDED: ("bodypose.service", *_MONITORING),
}
_OF_A_CONTAINER: Final = (
    *("Dockerfile", "Containerfile.models", "requirements.txt", *_EXECUTABLE, "prove.py"),
    *("compose.yaml", "chart/*", "chart/templates/*", "kserve/*"),
    *(*_MONITORING, "prometheus/adapter.yaml", "prometheus/keda.yaml"),
)
# Helm reads no file outside of its chart.
_IN_CHART: Final = ("gateway/envoy.yaml", "gateway/only_bodypose.lua", "prometheus/rules.yaml")
# What the chart knows better: its release's names, and its own values.
_CHART_SERVER: Final = Server(
    '{{ include "bodypose.servers" . }}', "{{ .Values.ports.http }}", "{{ .Values.ports.grpc }}"
)
_CHART_PORT: Final = "{{ .Values.gateway.port }}"


def rendered(template: str, texts: Mapping[str, str], blocks: Set[str]) -> str:
    """A template with its values.

    Raises:
        SpecError: the template names a value that nobody knows.
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in texts:
            raise SpecError(f"expected a value of this name, got @{{{found[1]}}}")
        return texts[found[1]]

    kept = _BLOCK.sub(lambda found: found[2] if found[1] in blocks else "", template)
    return _PLACEHOLDER.sub(value, kept)


def write_deploy_files(repository: Path, output: Path, deployment: Deployment) -> list[Path]:
    """Write the files with which `repository` is deployed, and their record beside the folder.

    For the embedded server those of one host; for a container images, chart, KServe and compose.
    Same repository, same files. Other files in the folder stay, such as certificates.

    Returns:
        The files written; one with tokens that is there stays as it is.

    Raises:
        ForeignFolderError: the folder is of something else.
        DeployError: the deployment would be open to a network, or the repository changed.
        PoseError: the repository cannot be read.
    """
    values = values_of(repository, deployment)
    check_can_write(output, is_folder=True)
    refuse_foreign_folder(output, _STAGE)
    texts = dict(_texts(values, deployment))
    if (output / TOKENS).exists():
        texts.pop(TOKENS, None)
    for name, text in texts.items():
        path = output / name
        with atomic_path(path) as temporary:
            temporary.write_text(text)
        if name in _EXECUTABLE:
            path.chmod(0o755)
    write_record(
        record_path(output),
        {
            "file": output.name,
            "stage": _STAGE,
            "settings": {
                "server_image": deployment.server_image,
                "models_image": deployment.models_image,
                "gpu_resource": deployment.gpu_resource,
                "access": str(deployment.access),
                "requests_per_s": deployment.requests_per_s,
            },
            "parents": [{"file": repository.name, "sha256": sha256_of(record_path(repository))}],
            "files": {name: sha256_of(output / name) for name in sorted(texts)},
        },
    )
    return [output / name for name in texts]


def write_gateway(repository: Path, output: Path, gateway: Gateway) -> None:
    """Write the files of the gateways alone, before servers whose addresses are known."""
    texts = {"name": ENSEMBLE, "envoy": ENVOY} | limits_of(repository)
    more, blocks = gateway_values(gateway)
    for name in _matching((_GATEWAY,)):
        (output / Path(name).name).write_text(
            rendered((DEPLOY / name).read_text(), texts | more, blocks)
        )


def _texts(values: Values, deployment: Deployment) -> Iterator[tuple[str, str]]:
    """Name and contents of every file."""
    embedded = values.target is ServerTarget.EMBEDDED
    names = _matching(_FILES_OF.get(values.target, _OF_A_CONTAINER))
    for name in names:
        yield name, rendered((DEPLOY / name).read_text(), values.texts, values.blocks)
    beside = Server("127.0.0.1") if embedded else Server("server")  # the service of compose.yaml
    texts, blocks = gateway_values(
        Gateway(deployment.servers or (beside,), deployment.access, deployment.requests_per_s)
    )
    secured = deployment.access is Access.TOKEN
    for name in _matching((_GATEWAY,)):
        if name != (_TRUSTED if secured else TOKENS):
            template = (DEPLOY / name).read_text()
            yield name, rendered(template, values.texts | texts, values.blocks | blocks)
    if embedded:
        return
    texts, blocks = gateway_values(
        Gateway((_CHART_SERVER,), requests_per_s=deployment.requests_per_s, port=_CHART_PORT)
    )
    for name in _IN_CHART:
        template = (DEPLOY / name).read_text()
        text = rendered(template, values.texts | texts, values.blocks | blocks)
        yield f"chart/files/{Path(name).name}", text


def _matching(patterns: tuple[str, ...]) -> list[str]:
    """Files of `deploy/` below these patterns, each of which finds some."""
    found = []
    for pattern in patterns:
        files = sorted(file for file in DEPLOY.glob(pattern) if file.is_file())
        if not files:
            raise SpecError(f"{DEPLOY}: expected {pattern}, got nothing; install the package again")
        found += [file.relative_to(DEPLOY).as_posix() for file in files]
    return found
