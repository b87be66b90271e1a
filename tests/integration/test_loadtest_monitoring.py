"""Every metric that the dashboard and the rules name is one that the running server has."""

import json
import re
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import bodypose_loadtest
from bodypose_client.errors import RequestRejected
from bodypose_client.pose_client import PoseClient

pytestmark = pytest.mark.triton

FOLDER = Path(bodypose_loadtest.__file__).parent / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())
RULES = yaml.safe_load((FOLDER / "prometheus-rules.yaml").read_text())
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
    return all(
        re.fullmatch(value if sign == "=~" else re.escape(value), labels.get(label, ""))
        for label, sign, value in matchers
    )


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_the_server_has_what_is_asked_of_it(served, expression):
    asked = list(selectors(expression))
    assert asked
    for name, matchers in asked:
        assert any(name == each and fits(labels, matchers) for each, labels in served), name


def test_the_labels_that_sums_keep_exist(served):
    for expression in EXPRESSIONS.values():
        for kept in re.findall(r"by \(([^)]*)\)", expression):
            name, _ = next(selectors(expression[expression.index(f"by ({kept})") :]))
            labels = next(labels for each, labels in served if each == name)
            assert {label.strip() for label in kept.split(",")} <= labels.keys(), expression


def test_no_expression_takes_the_ensemble_for_a_model_that_queues():
    for expression in EXPRESSIONS.values():
        for name, matchers in selectors(expression):
            if name.startswith("nv_inference"):
                assert ("model", "=~", "bodypose_.+") in matchers, expression
