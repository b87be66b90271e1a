"""Each alert fires at the values at which it should, and at no others: promtool's own tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
ALERTS = {
    rule["alert"]
    for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
CASES = yaml.safe_load((FOLDER / "rules_test.yaml").read_text())["tests"]


@pytest.fixture
def promtool() -> str:
    if (program := shutil.which("promtool")) is None:
        pytest.skip("needs promtool: run `apt-get install prometheus`")
    return program


def test_the_rules_do_what_their_cases_say(promtool):
    done = subprocess.run(
        [promtool, "test", "rules", FOLDER / "rules_test.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("fires", [True, False])
def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not(fires):
    cases = [case for test in CASES for case in test["alert_rule_test"]]

    assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) == fires} == ALERTS


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_that_never_fired_would_be_found(promtool, tmp_path, alert):
    rules = yaml.safe_load((FOLDER / "rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if rule.get("alert") == alert:
                rule["expr"] = f"({rule['expr']}) and on () vector(0) > 1"
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    shutil.copyfile(FOLDER / "rules_test.yaml", tmp_path / "rules_test.yaml")

    done = subprocess.run(
        [promtool, "test", "rules", "rules_test.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert alert in done.stdout + done.stderr
