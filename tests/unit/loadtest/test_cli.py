"""What the command says and leaves behind, with the load test itself left out."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import bodypose_loadtest.run
from bodypose_client.wire.access import Access, Tls
from bodypose_loadtest.cli import FAILED, INVALID, app
from bodypose_loadtest.report import Outcome


@pytest.fixture
def run(monkeypatch, tmp_path, report, records):
    """Call `pose-loadtest run`; the report that comes of it, and the plans that were made."""
    plans = []

    def pretend(plan, say):
        plans.append(plan)
        return Outcome(report, [("users 1", 0, records([(0, 0, 1, 0, 0)]))], ["a.jpg"])

    monkeypatch.setattr(bodypose_loadtest.run, "run_load_test", pretend)

    def call(*arguments, folder="new"):
        command = ["run", "-o", str(tmp_path / folder), *arguments]
        return CliRunner().invoke(app, command), plans

    return call


def test_a_broken_slo_is_exit_code_3_and_the_reason(run, tmp_path):
    result, plans = run("--scenario", "step", "--slo", "p99=50ms", "--duration", "1m")

    assert result.exit_code == FAILED
    assert "users 2: p99 100.0 ms > 50 ms" in result.output
    assert "knee: users 2, 20.0 answers/s" in result.output
    assert plans[0].duration_s == 60
    assert plans[0].slo.bounds == {"p99": 50}
    assert (tmp_path / "new" / "report.json").is_file()


def test_a_passed_slo_is_exit_code_0(run, report):
    report["verdict"] = {"passed": True, "broken": [], "invalid": []}

    result, _ = run("--scenario", "open", "--rate", "20")

    assert result.exit_code == 0
    assert "PASSED" in result.output


def test_numbers_that_are_not_the_servers_are_exit_code_4(run, report):
    report["verdict"] = {"passed": False, "broken": [], "invalid": ["users 1: generator"]}

    result, _ = run("--scenario", "steady")

    assert result.exit_code == INVALID
    assert "INVALID: these are not the server's numbers" in result.output


def test_a_regression_is_exit_code_3(run, report, tmp_path, summary):
    report["verdict"] = {"passed": True, "broken": [], "invalid": []}
    run("--scenario", "step", folder="old")
    report |= {"steps": [summary("users 1", latency_s=0.2, invalid=())], "knee": None}

    result, _ = run("--scenario", "step", "--compare", str(tmp_path / "old"))

    assert result.exit_code == FAILED
    assert "users 1: p99 2.000 of the old one (noise 3.0%) WORSE" in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--scenario", "open"), "expected --rate"),
        (("--scenario", "steady", "--slo", "fast"), "expected bounds such as"),
        (("--scenario", "steady", "--duration", "soon"), "expected 30s"),
        (("--scenario", "steady", "--url", "ftp://h"), "expected grpc://"),
        (("--scenario", "steady", "--url", "grpc://h", "--ca-file", "a"), "expected grpcs://"),
        (("--scenario", "steady", "--header", "a"), "expected NAME:VALUE"),
        (("--scenario", "storm"), "storm"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(run, arguments, problem):
    result, plans = run(*arguments)

    assert result.exit_code == 2
    assert problem in " ".join(result.output.replace("│", "").split())
    assert not plans


def test_the_url_says_the_protocol(run):
    _, plans = run("--scenario", "steady", "--url", "http://127.0.0.1:8000")

    assert plans[0].protocol == "http"


def test_access_is_given_before_the_command_and_after_it(run, monkeypatch, tmp_path):
    monkeypatch.setenv("POSE_CLIENT_TOKEN", "secret")
    given = ("--url", "grpcs://localhost", "--ca-file", "ca.pem", "--header", "a: b")

    _, plans = run("--scenario", "steady", *given)
    before = (*given, "run", "--scenario", "steady", "-o", str(tmp_path / "before"))
    CliRunner().invoke(app, before)

    access = Access(Tls(Path("ca.pem")), {"a": "b", "authorization": "Bearer secret"})
    assert [(plan.url, plan.access) for plan in plans] == [("grpcs://localhost", access)] * 2


@pytest.mark.parametrize("command", ["run", "result", "headroom"])
def test_every_command_has_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])

    assert f"pose-loadtest {command}" in result.output
    assert "Example" in result.output
