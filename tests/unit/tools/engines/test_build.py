import importlib.util
from types import SimpleNamespace

import onnx
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.engines import build as engines
from bodypose_tools.engines.build import build_engine, engine_record
from bodypose_tools.engines.settings import EngineRuntime, EngineSettings
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.quantisation.placement import place, prepare
from bodypose_tools.quantisation.qdq import insert_qdq
from pose_runtime.errors import EngineError
from pose_runtime.extras import install_line
from pose_runtime.spec import PipelineSpec

RTX = EngineSettings(EngineRuntime.TENSORRT_RTX, max_batch_size=4, opt_batch_size=2)
needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason=f"needs NVIDIA's parser: {install_line('engine')}",
)
SPEC = PipelineSpec()


def quiet(line: str) -> None:
    pass


@needs_rtx
@pytest.mark.slow
def test_export_builds_the_engine_in_the_same_command(tmp_path):
    graph, engine = tmp_path / "half.onnx", tmp_path / "half.plan"
    files = ("-m", str(SHIPPED_MODEL), "-o", str(graph), "--engine_file", str(engine))
    options = ("--data_type", "fp16", "--runtime", "tensorrt-rtx", "--max_batch_size", "2")
    result = CliRunner().invoke(app, ["export", *files, *options])
    assert result.exit_code == 0, result.output
    assert Artifact.open(engine).parents == (Artifact.open(graph).sha256,)
    assert engine_record(engine)["profile"]["max"][0] == 2


def test_export_says_that_it_cannot_build_before_the_long_work(tmp_path, without_nvidia):
    files = ("-o", str(tmp_path / "net.onnx"), "--engine_file", str(tmp_path / "net.plan"))
    result = CliRunner().invoke(app, ["export", "-m", str(SHIPPED_MODEL), *files])
    assert isinstance(result.exception, EngineError)
    assert "expected the package tensorrt" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_unsigned_activations_are_refused_before_anything_is_loaded(tmp_path):
    prepared = prepare(onnx.load(SHIPPED_MODEL))
    placement = place(prepared, unsigned=True)
    graph = insert_qdq(prepared, placement, dict.fromkeys(placement.tensors, 6 / 127))
    onnx.save(graph, tmp_path / "cpu.onnx")
    with pytest.raises(EngineError, match=r"expected signed INT8.* without --unsigned-activations"):
        build_engine(tmp_path / "cpu.onnx", tmp_path / "model.plan", RTX, quiet)


def test_an_engine_without_decoding_layers_is_refused_at_once(tmp_path):
    files = ("-m", str(tmp_path / "net.keras"), "--engine_file", str(tmp_path / "net.plan"))
    result = CliRunner().invoke(app, ["export", *files])
    assert "expected --sdk-compatible-model" in str(result.exception)


@needs_rtx
def test_nvidias_module_has_every_name_that_building_and_running_use():
    """`tensorrt` 10.12 to 11.4 have them, too: their bindings were looked into."""
    import tensorrt_rtx

    used = {
        "Builder": "create_network create_builder_config create_optimization_profile"
        " build_serialized_network",
        "OnnxParser": "parse get_error",
        "ParserError": "desc node_name node_operator",
        "INetworkDefinition": "get_layer num_layers",
        "ILayer": "name type num_inputs num_outputs get_input get_output",
        "IBuilderConfig": "set_memory_pool_limit profiling_verbosity add_optimization_profile",
        "Runtime": "deserialize_cuda_engine engine_host_code_allowed",
        "ICudaEngine": "create_execution_context create_engine_inspector get_tensor_shape",
        "EngineInspector": "get_engine_information",
        "IExecutionContext": "set_tensor_address set_input_shape execute_async_v3",
        "LayerInformationFormat": "JSON",
        "ProfilingVerbosity": "DETAILED",
        "LayerType": "CONVOLUTION DEQUANTIZE",
    }
    missing = [
        f"{kind}.{name}"
        for kind, names in used.items()
        for name in names.split()
        if not hasattr(getattr(tensorrt_rtx, kind), name)
    ]
    assert missing == []


@needs_rtx
@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible"])
def test_what_rtx_has_not_is_refused(tmp_path, option):
    settings = EngineSettings(EngineRuntime.TENSORRT_RTX, **{option: True})
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
        (EngineRuntime.TENSORRT, "docker run --rm --gpus all"),
        (EngineRuntime.TENSORRT_RTX, r"pip install -e '\.\[engine\]'"),
    ],
)
def test_without_the_package_the_command_says_what_to_run(without_nvidia, tmp_path, runtime, said):
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
    count = engines.find_convolutions
    assert count(TRT, network("dq", "dq")) == engines.Convolutions(int8=("conv",), other=0)
    assert count(TRT, network("relu", "constant")) == engines.Convolutions(int8=(), other=1)
    with pytest.raises(EngineError, match="expected INT8 input with INT8 weights"):
        count(TRT, network("relu", "dq"))


def test_a_plan_without_our_record_is_refused(tmp_path):
    (tmp_path / "model.plan").write_bytes(b"plan")
    with pytest.raises(EngineError, match="record of `tools build-engine`"):
        engine_record(tmp_path / "model.plan")


@pytest.mark.parametrize(
    "wrong",
    [
        {"runtime": None},
        {"runtime": "cuda"},
        {"max_batch_size": "8"},
        {"max_batch_size": True},
        {"pipeline": []},
    ],
)
def test_a_plan_whose_record_has_other_values_is_refused(tmp_path, wrong):
    (tmp_path / "model.plan").write_bytes(b"plan")
    settings = {
        "runtime": "tensorrt",
        "runtime_version": "11.1",
        "version_compatible": False,
        "max_batch_size": 8,
        "pipeline": {},
    }
    Artifact.record(tmp_path / "model.plan", "build-engine", settings={**settings, **wrong})
    with pytest.raises(EngineError, match=f"got none that fits in {next(iter(wrong))}"):
        engine_record(tmp_path / "model.plan")
