"""Which graph of a shipped model a CPU gets, and in which arithmetic."""

import json

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.settings import ShippedModel
from bodypose_tools.files.shipped import float_graph, int8_graph
from bodypose_tools.repository import choice
from bodypose_tools.repository.choice import choose
from bodypose_tools.repository.pbtxt import NETWORK, read_config
from bodypose_tools.repository.settings import NetworkPrecision
from bodypose_tools.runtimes import cpu

XS = ShippedModel.BODYPOSE_XS


@pytest.mark.parametrize(
    ("flags", "is_int8", "rest"),
    [
        ("avx2", False, "f32"),
        ("avx2 avx_vnni", True, "f32"),
        ("avx2 avx512_vnni avx512_bf16", True, "bf16"),
        ("avx2 avx512_vnni amx_int8 amx_bf16", True, "bf16"),
        ("neon", False, "f32"),
    ],
)
def test_a_cpu_gets_int8_where_its_sums_are_exact_and_bfloat16_where_it_has_it(
    flags, is_int8, rest
):
    chosen = choose(XS, NetworkPrecision.AUTO, flags.split())
    assert chosen.graph == (int8_graph(XS) if is_int8 else float_graph(XS))
    assert chosen.precision == rest


@pytest.mark.parametrize("model", list(ShippedModel))
def test_every_shipped_model_has_both_graphs_and_its_int8_graph_passed_its_gates(model):
    settings = Artifact.open(int8_graph(model)).settings
    assert settings["unsigned_activations"]
    assert [gate["passed"] for gate in settings["gates"]] == [True, True]  # joints, AP
    float_bytes, int8_bytes = (of(model).stat().st_size for of in (float_graph, int8_graph))
    assert int8_bytes <= 0.65 * float_bytes
    (parent,) = Artifact.open(int8_graph(model)).parents
    assert parent == Artifact.open(float_graph(model)).sha256


def test_a_graph_that_missed_a_gate_is_not_taken(monkeypatch):
    monkeypatch.setattr(choice, "_passed_its_gates", lambda graph: False)
    chosen = choose(XS, NetworkPrecision.AUTO, ["avx512_vnni", "avx512_bf16"])
    assert (chosen.graph, chosen.precision) == (float_graph(XS), "bf16")
    assert choose(XS, NetworkPrecision.INT8, ["avx512_vnni"]).graph == int8_graph(XS)


@pytest.mark.parametrize(
    ("options", "flags", "graph", "precision"),
    [
        ((), "avx2 avx512_vnni avx512_bf16", int8_graph(ShippedModel.BODYPOSE_S), "bf16"),
        (("--model", "bodypose-xs"), "avx2", float_graph(XS), "f32"),
        (("--model", "bodypose-xs", "--precision", "bf16"), "avx2", float_graph(XS), "bf16"),
        (("--model", "bodypose-xs", "--precision", "int8"), "avx2", int8_graph(XS), "f32"),
    ],
)
def test_the_command_says_what_it_chose_and_builds_it(
    options, flags, graph, precision, tmp_path, monkeypatch
):
    monkeypatch.setattr(cpu, "cpu_flags", lambda: frozenset(flags.split()))
    folder = tmp_path / "built"
    built = CliRunner().invoke(app, ["build-repo", *options, "-o", str(folder)])
    assert built.exit_code == 0, built.output
    assert f"network: {graph.name} in {precision}: " in built.output
    config = read_config(folder / NETWORK / "config.pbtxt")
    assert config.parameters["precision"].string_value == precision
    record = json.loads((tmp_path / "built.json").read_text())
    assert Artifact.open(graph).sha256 in json.dumps(record)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("x.onnx", "--model", "bodypose-xs"), "expected a file or a shipped model, got both"),
        (("x.onnx", "--precision", "int8"), "expected another than int8"),
        (("--device", "cuda", "--precision", "auto"), "expected another than auto"),
        (("--precision", "f16"), "expected --device cuda with f16"),
    ],
)
def test_what_does_not_go_together_is_refused(options, said):
    result = CliRunner().invoke(app, ["build-repo", *options])
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())
