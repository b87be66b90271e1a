import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from bodypose_client import cli
from bodypose_client.blocking import as_coroutine
from bodypose_client.wire.connection import ServerInfo, WarmUp
from bodypose_client.wire.statistics import model_statistics, warm_up_in

STATISTICS = {
    "model_stats": [
        {
            "name": "bodypose_network",
            "version": "1",
            "inference_count": "6",
            "execution_count": "3",
            "inference_stats": {
                "success": {"count": "3", "ns": "9000000"},
                "fail": {"count": 1, "ns": 5},
                "queue": {"count": 3, "ns": 1500000},
                "compute_input": {"count": 3, "ns": 0},
                "compute_infer": {"count": 3, "ns": 6000000},
            },
        }
    ]
}

MODELS = model_statistics(STATISTICS)
NO_WARM_UP = WarmUp()


@pytest.fixture
def describe(fake_server, one_person):
    def call(*args, models=MODELS, warm_up=NO_WARM_UP):
        server = ServerInfo("triton", "2.51.0", models)
        opened = fake_server(one_person)(None, None)

        async def describe(model, deadline):
            info = await opened.describe(model, deadline)
            return replace(info, warm_up=warm_up)

        connection = replace(
            opened, inspect=as_coroutine(lambda deadline: server), describe=describe
        )
        return CliRunner().invoke(cli.app, ["describe", *args], obj=lambda *_: connection)

    return call


def test_statistics_are_means_in_milliseconds():
    (model,) = model_statistics(STATISTICS)

    assert (model.requests, model.failures, model.images, model.executions) == (3, 1, 6, 3)
    assert (model.queue_ms, model.compute_ms, model.request_ms) == (0.5, 2, 3)


def test_the_servers_own_warm_up_is_not_counted(describe):
    warm = describe("--json", warm_up=WarmUp(requests=2, executions=2)).stdout
    cold = describe(warm_up=WarmUp(requests=9, executions=9)).stdout

    (model,) = json.loads(warm)["statistics"]
    assert (model["requests"], model["images"], model["executions"]) == (1, 4, 1)
    assert model["warm_ups"] == 2
    assert "2.00" not in cold  # nobody has asked: means would be of the warm-up


@pytest.mark.parametrize(
    ("config", "warm_up"),
    [
        ({}, WarmUp(0, 0)),
        ({"model_warmup": [{"batch_size": 1}, {"batch_size": 8}]}, WarmUp(9, 2)),
        (
            {
                "instance_group": [{"count": 2, "gpus": [0, 1]}, {"count": 1}],
                "model_warmup": [{"batch_size": 4, "count": 3}, {"batch_size": 0, "count": 0}],
            },
            WarmUp(5 * 13, 5 * 4),
        ),
    ],
)
def test_a_configuration_tells_how_often_the_server_asks_itself(config, warm_up):
    assert warm_up_in(config) == warm_up


def test_describe_is_for_people(describe):
    text = describe().stdout

    for words in (
        "triton 2.51.0",
        "bodypose, version 3",
        "384 x 288",
        "bodypose_18: 18 joints, 19 limbs",
        "right_elbow",
        "2 joints or more of score 0.1, joined by limbs of 0.05",
        "people from score 0.2 on; a joint is found from 0.2 on",
        "bodypose_network",
        "2.00",
    ):
        assert words in text


def test_describe_is_for_machines(describe, spec):
    record = json.loads(describe("--json").stdout)

    assert record["server"] == {"name": "triton", "version": "2.51.0"}
    assert record["skeleton"]["limbs"][0] == [1, 8]
    assert record["thresholds"]["min_joints"] == spec.grouping.min_joints
    assert record["statistics"][0]["images"] == 6


def test_a_server_without_statistics_is_described(describe):
    assert "keeps no statistics" in describe(models=()).stdout


def test_the_options_before_the_command_say_how_to_get_in(
    fake_server, one_person, tmp_path, monkeypatch
):
    seen = []

    def connect(address, access):
        seen.append(access)
        return fake_server(one_person)(address, access)

    def call(*args):
        return CliRunner().invoke(cli.app, [*args, "describe", "--json"], obj=connect)

    monkeypatch.setenv("POSE_CLIENT_TOKEN", "secret")
    assert call("--header", "X-Tenant: lab", "--ca-file", str(tmp_path)).exit_code == 0
    assert seen[0].headers == {"x-tenant": "lab", "authorization": "Bearer secret"}
    assert seen[0].tls.ca_file == tmp_path
    assert call("--header", "nonsense").exit_code == 2
