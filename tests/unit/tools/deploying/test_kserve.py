"""The KServe objects: each key is one of KServe's classes, each pod one of Kubernetes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bodypose_tools.deploying.settings import NEWEST_KUBERNETES, OLDEST_KUBERNETES
from tests.charts import USES, write_chart
from tests.fleet_tools import kserve_models


@pytest.fixture(scope="module", params=["claim", "gpu"])
def objects(request, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """The runtime and the service, for a CPU and for a GPU."""
    deploy = write_chart(USES[request.param], tmp_path_factory.mktemp("kserve")).parent
    files = sorted((deploy / "kserve").glob("*.yaml"))
    return {each["kind"]: each for file in files for each in yaml.safe_load_all(file.read_text())}


def tables_of(models: Path, name: str) -> tuple[dict[str, str], dict[str, str]] | None:
    """Type of each attribute and its key in YAML, of one class of KServe's; None: not KServe's."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    file = models / f"{words}.py"
    if not file.is_file():
        return None
    (found,) = (n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef))
    assigned = {
        target.id: node.value
        for node in found.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    types, keys = (ast.literal_eval(assigned[name]) for name in ("openapi_types", "attribute_map"))
    return types, keys


def strays(models: Path, name: str, value: Any, at: str = "") -> list[str]:
    """Keys of `value` that KServe's class `name` does not have, wherever they are."""
    if (found := re.fullmatch(r"list\[(\w+)\]", name)) is not None:
        parts = (strays(models, found[1], each, f"{at}[{n}]") for n, each in enumerate(value))
        return [stray for part in parts for stray in part]
    if (tables := tables_of(models, name)) is None:
        return []
    types, keys = tables
    attribute = {key: attribute for attribute, key in keys.items()}
    found_here = [f"{at}.{key}" for key in value if key not in attribute]
    for key in set(value) & set(attribute):
        found_here += strays(models, types[attribute[key]], value[key], f"{at}.{key}")
    return found_here


CLASSES = {
    "ServingRuntime": "V1alpha1ServingRuntime",
    "InferenceService": "V1beta1InferenceService",
}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_key_is_one_of_kserves_class(objects, kind):
    models = kserve_models()
    assert tables_of(models, CLASSES[kind]) is not None
    assert strays(models, CLASSES[kind], objects[kind]) == []


@pytest.mark.parametrize(
    ("kind", "path", "key"),
    [
        ("ServingRuntime", ("spec",), "volume"),
        ("ServingRuntime", ("spec", "supportedModelFormats", 0), "autoselect"),
        ("InferenceService", ("spec", "predictor"), "minReplica"),
        ("InferenceService", ("spec", "predictor", "model"), "storageURI"),
    ],
)
def test_a_misspelt_key_would_be_found(objects, kind, path, key):
    wrong = yaml.safe_load(yaml.safe_dump(objects[kind]))
    place = wrong
    for step in path:
        place = place[step]
    place[key] = "x"
    (found,) = strays(kserve_models(), CLASSES[kind], wrong)
    assert found.endswith(f".{key}")


def pod_of(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The pod that KServe makes of both, as far as Kubernetes knows its keys."""
    runtime, predictor = objects["ServingRuntime"]["spec"], objects["InferenceService"]["spec"]
    predictor = predictor["predictor"]
    kept = ("terminationGracePeriodSeconds", "automountServiceAccountToken")
    spec = {key: predictor[key] for key in kept} | {
        "containers": runtime["containers"],
        "volumes": runtime["volumes"],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pose"}, "spec": spec}


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, NEWEST_KUBERNETES])
def test_kubernetes_accepts_the_pod(objects, version):
    assert kubernetes_validate.validate(pod_of(objects), version, strict=True) == version


def test_the_pod_keeps_to_the_policies_of_the_chart(objects):
    pod = pod_of(objects)["spec"]
    (container,) = pod["containers"]
    drain = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain >= 10
    assert pod["terminationGracePeriodSeconds"] >= drain + 30
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["image"].endswith(":latest")
    assert container["livenessProbe"]["exec"]["command"] == ["bodypose-alive"]
    memory = {v["name"] for v in pod["volumes"] if v["emptyDir"].get("medium") == "Memory"}
    assert [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/dev/shm"] == [
        *memory
    ]
    service = objects["InferenceService"]["spec"]["predictor"]
    assert service["deploymentStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert service["model"]["storageUri"].startswith("oci+native://")
