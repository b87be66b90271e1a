"""The chart as several people would use it, and what it became when it was last read.

python -m tests.charts        # rewrites the golden files
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bodypose_tools.deploying.files import write_deploy_files
from bodypose_tools.deploying.settings import (
    FIRST_IMAGE_VOLUMES,
    NEWEST_KUBERNETES,
    OLDEST_KUBERNETES,
)
from bodypose_tools.deploying.values import Deployment
from bodypose_tools.repository import targets
from bodypose_tools.repository.build import build_repository
from pose_runtime import __version__
from tests.fleet_tools import helm
from tests.serving import SPEC
from tests.tiny_network import write_tiny_onnx

GOLDEN = Path(__file__).parent / "unit" / "tools" / "deploying" / "golden"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
SECRETS = {"gateway": {"tlsSecret": "pose-tls", "accessSecret": "pose-access"}}
# Of other projects, whose schemas no Kubernetes has.
CUSTOM = {"ScaledObject", "PodMonitor", "PrometheusRule"}


@dataclass(frozen=True)
class Use:
    """One way to use the chart: its target, values, and the Kubernetes versions it is for."""

    target: str
    kubernetes: tuple[str, ...]
    values: Mapping[str, Any]
    deployment: Deployment = field(default_factory=Deployment)


USES = {
    "claim": Use(
        "cpu",
        (OLDEST_KUBERNETES, NEWEST_KUBERNETES),
        {"models": {"claim": "pose-models"}, **SECRETS},
    ),
    "inside": Use(
        "cpu",
        (OLDEST_KUBERNETES, NEWEST_KUBERNETES),
        {
            "models": {"claim": "pose-models"},
            "gateway": {"enabled": False},
            "clients": [{"podSelector": {"matchLabels": {"app": "camera"}}}],
            "autoscaling": {"kind": "adapter"},
            "imagePullSecrets": [{"name": "registry"}],
        },
    ),
    "gpu": Use(
        "gpu",
        (FIRST_IMAGE_VOLUMES, NEWEST_KUBERNETES),
        {
            **SECRETS,
            "image": {"digest": DIGEST},
            "arguments": ["--backend-config=tensorrt,version-compatible=true"],
            "autoscaling": {"kind": "keda"},
            "prometheus": {"operator": True},
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        },
        Deployment(
            "registry.example/bodypose",
            f"registry.example/bodypose-models@{DIGEST}",
            "nvidia.com/mig-1g.10gb",
        ),
    ),
}


def write_chart(use: Use, folder: Path) -> Path:
    """The files of `tools deploy-files` for a use; its chart."""
    serving = {"cpu": targets.cpu, "gpu": targets.cuda_in_container}[use.target]()
    build_repository(write_tiny_onnx(folder / "tiny.onnx", SPEC), folder / "repository", serving)
    write_deploy_files(folder / "repository", folder / "deploy", use.deployment)
    (folder / "values.yaml").write_text(yaml.safe_dump(dict(use.values)))
    return folder / "deploy" / "chart"


def ran_helm(command: str, chart: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`helm COMMAND` of a chart, with the values beside the files of its use."""
    release = ["pose"] if command == "template" else []
    values = chart.parents[1] / "values.yaml"
    return subprocess.run(
        [helm(), command, *release, chart, "--values", values, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def template(chart: Path, kubernetes: str, *options: str) -> str:
    """The manifests for one version of Kubernetes."""
    done = ran_helm("template", chart, "--kube-version", kubernetes, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def golden_text(manifests: str) -> str:
    """The manifests without copies of whole files, and what is computed from these."""
    copies = ("\nkind: ConfigMap\n", "\nkind: PrometheusRule\n")
    text = manifests.replace(f"{__version__}-triton", "VERSION-triton")
    documents = re.sub(r"checksum/config: \w+", "checksum/config: _", text).split("---\n")
    return "---\n".join(each for each in documents if not any(copy in each for copy in copies))


def main() -> None:
    for name, use in USES.items():
        with tempfile.TemporaryDirectory() as folder:
            chart = write_chart(use, Path(folder))
            (GOLDEN / f"{name}.yaml").write_text(golden_text(template(chart, NEWEST_KUBERNETES)))


if __name__ == "__main__":
    main()
