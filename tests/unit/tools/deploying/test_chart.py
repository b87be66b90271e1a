"""The Helm chart: linted, rendered as several people would use it, and held to the policies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bodypose_tools.deploying.settings import FIRST_IMAGE_VOLUMES, NEWEST_KUBERNETES
from tests.charts import CUSTOM, GOLDEN, USES, golden_text, ran_helm, template, write_chart


@pytest.fixture(scope="module")
def charts(tmp_path_factory) -> dict[str, Path]:
    return {name: write_chart(use, tmp_path_factory.mktemp(name)) for name, use in USES.items()}


@pytest.fixture(scope="module", params=USES)
def chart(request, charts) -> tuple[str, Path]:
    return request.param, charts[request.param]


@pytest.fixture(scope="module")
def manifests(charts) -> dict[str, list[dict[str, Any]]]:
    """Use -> its objects."""
    return {
        name: [
            each
            for each in yaml.safe_load_all(template(path, USES[name].kubernetes[0]))
            if each is not None
        ]
        for name, path in charts.items()
    }


def all_of(manifests, *kinds: str) -> Iterator[dict[str, Any]]:
    for objects in manifests.values():
        yield from (each for each in objects if each["kind"] in kinds)


def pods_of(manifests) -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in all_of(manifests, "Deployment")]


def containers_of(manifests) -> list[dict[str, Any]]:
    return [each for pod in pods_of(manifests) for each in pod["containers"]]


def test_the_chart_passes_helms_strict_lint(chart):
    done = ran_helm("lint", chart[1], "--strict")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifests_are_the_golden_ones(chart):
    name, path = chart
    golden = (GOLDEN / f"{name}.yaml").read_text()
    assert golden_text(template(path, NEWEST_KUBERNETES)) == golden, (
        "run python -m tests.charts, and read the difference"
    )


def test_kubernetes_accepts_every_manifest(chart):
    name, path = chart
    for version in USES[name].kubernetes:
        seen = set()
        for each in yaml.safe_load_all(template(path, version)):
            if each is None or each["kind"] in CUSTOM:
                continue
            assert kubernetes_validate.validate(each, version, strict=True) == version
            seen.add(each["kind"])
        assert {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"} <= seen


def test_a_misspelt_field_would_be_found(manifests):
    (deployment, *_) = all_of(manifests, "Deployment")
    wrong = json.loads(json.dumps(deployment).replace("readOnlyRootFilesystem", "readOnlyRoot"))
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST_KUBERNETES, strict=True)


# Value, what Helm's error names.
REFUSED = {
    "drainSeconds=5": "drainSeconds",
    "graceSeconds=40": "graceSeconds",
    "image.tag=latest": "image",
    "models.image=registry.example/models:1": "models",
    "models.claim=": "models: expected one of",
    "gateway.tlsSecret=": "gateway: expected tlsSecret",
    "gateway.accessSecret=": "gateway: expected tlsSecret and accessSecret",
    "gateway.image=envoy:latest": "gateway",
    "autoscaling.kind=hpa": "autoscaling",
    "autoscaling.minReplicas=99": "autoscaling: expected minReplicas",
    "prometheus.from=null": "from",
    "replica=3": "replica",
    "ports.http=80": "ports",
}


@pytest.mark.parametrize("value", REFUSED)
def test_a_value_that_breaks_a_policy_is_refused_by_name(charts, value):
    done = ran_helm("template", charts["claim"], "--set", value)
    assert done.returncode != 0
    assert REFUSED[value] in done.stderr


def test_an_image_volume_is_refused_where_kubernetes_has_none(charts):
    done = ran_helm("template", charts["gpu"], "--kube-version", "1.34")
    assert done.returncode != 0
    assert f"expected Kubernetes {FIRST_IMAGE_VOLUMES} for image volumes" in done.stderr


def test_a_pod_drains_and_ends_within_its_grace(manifests):
    for objects in manifests.values():
        for pod in pods_of({"": objects}):
            for container in pod["containers"]:
                drain = container["lifecycle"]["preStop"]["sleep"]["seconds"]
                environment = {each["name"]: each["value"] for each in container.get("env", ())}
                assert drain >= 10
                assert pod["terminationGracePeriodSeconds"] >= drain + int(
                    environment.get("EXIT_TIMEOUT_S", 0)
                )


def test_a_pod_has_no_rights_that_it_does_not_need(manifests):
    for pod in pods_of(manifests):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] >= 1000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers_of(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_images_are_named_by_a_version_or_a_digest(manifests):
    for container in containers_of(manifests):
        assert "@sha256:" in container["image"] or ":" in container["image"].split("/")[-1]
        assert not container["image"].endswith(":latest")


def test_shared_memory_is_a_volume_of_memory(manifests):
    for objects in manifests.values():
        (server,) = (each for each in objects if _is(each, "Deployment", "server"))
        pod = server["spec"]["template"]["spec"]
        (mount,) = (m for m in pod["containers"][0]["volumeMounts"] if m["mountPath"] == "/dev/shm")
        (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
        assert volume["emptyDir"]["medium"] == "Memory"
        assert volume["emptyDir"]["sizeLimit"].endswith("Mi")


def test_an_update_takes_no_server_away_before_another_is_there(manifests):
    for each in all_of(manifests, "Deployment"):
        assert each["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_a_probe_of_life_is_a_real_image(manifests):
    for objects in manifests.values():
        (server,) = (each for each in objects if _is(each, "Deployment", "server"))
        container = server["spec"]["template"]["spec"]["containers"][0]
        assert container["livenessProbe"]["exec"]["command"] == ["bodypose-alive"]
        assert container["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"


def test_prometheus_is_let_in_to_the_metrics_and_callers_to_the_rest(manifests):
    for name, objects in manifests.items():
        (policy,) = (each for each in objects if _is(each, "NetworkPolicy", "server"))
        peers = {
            port["port"]: rule["from"]
            for rule in policy["spec"]["ingress"]
            for port in rule["ports"]
        }
        assert peers["metrics"] == [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ]
        assert [*peers["grpc"]] == [*peers["http"]]
        assert len(peers["grpc"]) == 1, name
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_what_scales_reads_both_queries_of_the_values(charts, manifests):
    values = yaml.safe_load((charts["gpu"] / "values.yaml").read_text())["autoscaling"]
    (scaled,) = all_of(manifests, "ScaledObject")
    queries = [each["metadata"]["query"] for each in scaled["spec"]["triggers"]]
    assert queries == [values["waitQuery"], values["demandQuery"]]
    assert {each["metricType"] for each in scaled["spec"]["triggers"]} == {"Value"}

    (scaler,) = all_of(manifests, "HorizontalPodAutoscaler")
    adapter = yaml.safe_load((charts["inside"].parent / "prometheus/adapter.yaml").read_text())
    offered = {each["name"]["as"]: each["metricsQuery"] for each in adapter["rules"]["external"]}
    asked = [each["external"]["metric"]["name"] for each in scaler["spec"]["metrics"]]
    assert [offered[name] for name in asked] == [values["waitQuery"], values["demandQuery"]]


def test_replicas_are_left_to_what_scales(manifests):
    for name, objects in manifests.items():
        (server,) = (each for each in objects if _is(each, "Deployment", "server"))
        assert ("replicas" in server["spec"]) == (name == "claim")


def _is(each: dict[str, Any], kind: str, component: str) -> bool:
    labels = each["metadata"]["labels"]
    return each["kind"] == kind and labels["app.kubernetes.io/component"] == component
