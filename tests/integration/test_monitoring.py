"""Every metric that the dashboard and the rules name is one that the running server has."""

import json
import re
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from bodypose_client.errors import RequestRejected
from bodypose_client.pose_client import PoseClient

pytestmark = pytest.mark.triton

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
RULES = yaml.safe_load((FOLDER / "rules.yaml").read_text())
# What Prometheus adds, and what Grafana's variables stand for.
ADDED = {"instance": "127.0.0.1:8002", "job": "bodypose"}
EXPRESSIONS = {
    **{
        f"panel {panel['title']}, {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    },
    **{
        f"rule {rule.get('record') or rule['alert']}": rule["expr"]
        for group in RULES["groups"]
        for rule in group["rules"]
    },
}


@pytest.fixture(scope="module")
def served(server):
    """Name and labels of every sample, after one image that is answered and one that is not."""
    _, image = cv2.imencode(".jpg", np.full((32, 48, 3), 90, np.uint8))
    with PoseClient(f"grpc://{server.grpc_url}") as client:
        client.infer(image.tobytes())
        with pytest.raises(RequestRejected):
            client.infer(b"not an image")
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics") as answer:
        text = answer.read().decode()
    return [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', labels or "")))
        for name, labels in re.findall(r"^([a-z]\w*)(?:\{(.*)\})? \S+$", text, re.M)
    ]


def selectors(expression):
    """Metric names with their label matchers: `a{b="c"}` is ("a", [("b", "=", "c")])."""
    for name, matchers in re.findall(r"(?<![:\w])((?:nv|pose)_\w+)(?:\{([^}]*)\})?", expression):
        yield name, re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers)


def fits(labels, matchers):
    labels = labels | ADDED
    return all(
        value.startswith("$")
        or re.fullmatch(value if sign == "=~" else re.escape(value), labels.get(label, ""))
        for label, sign, value in matchers
    )


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_the_server_has_what_is_asked_of_it(served, expression):
    asked = list(selectors(expression))
    assert asked or re.search(r"\b(up|bodypose:\w+)", expression)
    for name, matchers in asked:
        assert any(name == each and fits(labels, matchers) for each, labels in served), name


def test_the_labels_that_sums_keep_exist(served):
    for expression in EXPRESSIONS.values():
        for kept in re.findall(r"by \(([^)]*)\)", expression):
            name, _ = next(selectors(expression[expression.index(f"by ({kept})") :]))
            labels = next(labels for each, labels in served if each == name)
            kept_labels = {label.strip() for label in kept.split(",")}
            assert kept_labels <= labels.keys() | ADDED.keys(), expression


def test_no_expression_takes_the_ensemble_for_a_model_that_queues():
    for expression in EXPRESSIONS.values():
        for name, matchers in selectors(expression):
            if re.match("nv_inference_(pending|queue|exec|compute)", name):
                assert ("model", "=~", "bodypose_.+") in matchers, expression


def test_no_expression_reads_counters_that_stay_0():
    for expression in EXPRESSIONS.values():
        assert "nv_inference_request_failure" not in expression


def test_every_panel_is_of_the_chosen_servers():
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            for _, matchers in selectors(target["expr"]):
                assert ("instance", "=~", "$instance") in matchers, panel["title"]
