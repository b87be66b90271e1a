import importlib.util
import json
from types import SimpleNamespace

import onnx
import pytest

from pose_runtime.spec import PipelineSpec
from tools import engines
from tools.artifacts import Artifact, record_path
from tools.engines import EngineError, EngineSettings, Runtime, build_engine, engine_record
from tools.half_precision import to_half
from tools.quantize import place, prepare, quantize
from tools.repository import SHIPPED_MODEL

RTX = EngineSettings(Runtime.TENSORRT_RTX, max_batch_size=4, opt_batch_size=2)
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="needs NVIDIA's parser: pip install -e '.[engine]' -c constraints.txt",
)
SPEC = PipelineSpec()


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def graphs(tmp_path_factory) -> dict:
    """The shipped network with its decoding layers in all precisions; scales are made up."""
    folder = tmp_path_factory.mktemp("graphs")
    model = onnx.load(SHIPPED_MODEL)
    prepared = prepare(model)
    placement = place(prepared)
    made = {
        "fp32": model,
        "fp16": to_half(model),
        "int8": quantize(prepared, placement, dict.fromkeys(placement.tensors, 6 / 127)),
    }
    for name, graph in made.items():
        onnx.save(graph, folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in made}


@needs_rtx
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "int8"), [("fp32", 0), ("fp16", 0), ("int8", 90)])
def test_nvidias_builder_accepts_the_network_with_its_decoding_layers(
    graphs, tmp_path, precision, int8
):
    out = tmp_path / "model.plan"
    made = build_engine(graphs[precision], out, RTX, quiet)
    assert out.stat().st_size > 1_000_000
    assert made.parents == (Artifact.open(graphs[precision]).sha256,)
    record = engine_record(out)
    assert record["runtime"] == "tensorrt-rtx"
    assert record["convolutions_in_graph"] == {"int8": int8, "other": 93 - int8}
    assert record["profile"] == {
        name: [size, *SPEC.pixels.dims] for name, size in (("min", 1), ("opt", 2), ("max", 4))
    }
    assert json.loads(record_path(out).read_text())["stage"] == "build-engine"


@needs_rtx
@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible"])
def test_what_rtx_has_not_is_refused(tmp_path, option):
    settings = EngineSettings(Runtime.TENSORRT_RTX, **{option: True})
    with pytest.raises(EngineError, match="tensorrt-rtx has no --" + option.replace("_", "-")):
        build_engine(SHIPPED_MODEL, tmp_path / "model.plan", settings, quiet)


@needs_rtx
def test_an_operator_that_nvidias_parser_does_not_know_is_named(tmp_path, monkeypatch):
    model = onnx.load(SHIPPED_MODEL)
    floor = next(node for node in model.graph.node if node.op_type == "Floor")
    floor.op_type, floor.domain = "Celling", "example"
    model.opset_import.append(onnx.helper.make_opsetid("example", 1))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    monkeypatch.setattr(engines, "spec_in_onnx", lambda _: SPEC)
    with pytest.raises(EngineError, match="does not parse Celling"):
        build_engine(path, tmp_path / "model.plan", RTX, quiet)


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (Runtime.TENSORRT, "docker run --rm --gpus all"),
        (Runtime.TENSORRT_RTX, r"pip install -e '\.\[engine\]'"),
    ],
)
def test_without_the_package_the_command_says_what_to_run(monkeypatch, tmp_path, runtime, said):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(engines.importlib, "import_module", missing)
    with pytest.raises(EngineError, match=said):
        build_engine(SHIPPED_MODEL, tmp_path / "model.plan", EngineSettings(runtime), quiet)


def test_the_profile_comes_from_one_number():
    dims = SPEC.pixels.dims
    assert EngineSettings(max_batch_size=16).profile(SPEC) == {
        "min": (1, *dims),
        "opt": (16, *dims),
        "max": (16, *dims),
    }
    with pytest.raises(EngineError, match="opt_batch_size <= max_batch_size, got 9 and 8"):
        EngineSettings(opt_batch_size=9).profile(SPEC)


def network(*inputs: str):
    """A stand-in for a parsed network: one layer per input of one convolution."""
    layers = [
        SimpleNamespace(
            name=kind,
            type=kind,
            num_inputs=0,
            num_outputs=1,
            get_output=lambda _, n=index: SimpleNamespace(name=f"t{n}"),
        )
        for index, kind in enumerate(inputs)
    ]
    layers.append(
        SimpleNamespace(
            name="conv",
            type="conv",
            num_inputs=2,
            num_outputs=1,
            get_output=lambda _: SimpleNamespace(name="y"),
            get_input=lambda index: SimpleNamespace(name=f"t{index}"),
        )
    )
    return SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)


TRT = SimpleNamespace(LayerType=SimpleNamespace(CONVOLUTION="conv", DEQUANTIZE="dq"))


def test_a_convolution_counts_as_int8_when_both_sides_are():
    count = engines.count_convolutions
    assert count(TRT, network("dq", "dq")) == engines.Convolutions(int8=1, other=0)
    assert count(TRT, network("relu", "constant")) == engines.Convolutions(int8=0, other=1)
    with pytest.raises(EngineError, match="expected INT8 input with INT8 weights"):
        count(TRT, network("relu", "dq"))


def test_a_plan_without_our_record_is_refused(tmp_path):
    (tmp_path / "model.plan").write_bytes(b"plan")
    with pytest.raises(EngineError, match="record of `tools build-engine`"):
        engine_record(tmp_path / "model.plan")
