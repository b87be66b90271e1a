"""config.pbtxt: Triton reads back what the spec says, and the committed snapshots show it."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as triton

from bodypose_tools.files.shipped import MODEL_SOURCES
from bodypose_tools.repository.build import CONFIG, write_configs
from bodypose_tools.repository.pbtxt import (
    ENSEMBLE,
    GROUPING,
    MAX_IMAGES_UNDER_WAY,
    NETWORK,
    PREPROCESS,
    STEPS,
    data_type_name,
    ensemble_of,
    read_config,
    render_config,
)
from bodypose_tools.repository.settings import NetworkBackend
from bodypose_tools.repository.targets import Serving
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec, TensorSpec

SPEC = PipelineSpec(network_hw=(64, 96), max_peaks=4, max_people=3, model_sha256="abc")


@pytest.fixture
def configs(tmp_path):
    for model in (*ensemble_of(SPEC).steps, ensemble_of(SPEC)):
        (tmp_path / model.name).mkdir()
    write_configs(tmp_path, SPEC)
    return {path.parent.name: read_config(path) for path in tmp_path.glob(f"*/{CONFIG}")}


def tensors_of(declared):
    return tuple(
        TensorSpec(tensor.name, data_type_name(tensor.data_type), tuple(tensor.dims))
        for tensor in declared
    )


def test_the_pipeline_is_three_steps_and_an_ensemble(configs):
    assert configs.keys() == {ENSEMBLE, PREPROCESS, NETWORK, GROUPING}
    steps = configs[ENSEMBLE].ensemble_scheduling.step
    assert tuple(step.model_name for step in steps) == STEPS


def test_triton_reads_back_every_tensor_of_the_spec(configs):
    for model in (*ensemble_of(SPEC).steps, ensemble_of(SPEC)):
        config = configs[model.name]
        assert config.name == model.name
        assert config.max_batch_size == model.max_batch_size
        assert tensors_of(config.input) == model.inputs
        assert tensors_of(config.output) == model.outputs


def test_a_client_learns_the_whole_pipeline_from_the_ensemble(configs):
    parameters = configs[ENSEMBLE].parameters

    assert PipelineSpec.from_json(parameters["pipeline"].string_value) == SPEC
    assert parameters["model_sha256"].string_value == "abc"
    assert parameters["version"].string_value


@pytest.mark.parametrize("name", STEPS)
def test_each_step_is_warmed_up_and_takes_requests_as_they_come(configs, name):
    config = configs[name]

    assert not config.HasField("dynamic_batching")
    assert {warmup.batch_size for warmup in config.model_warmup} == {1, config.max_batch_size}
    for warmup in config.model_warmup:
        needed = {tensor.name for tensor in config.input if not tensor.optional}
        assert warmup.inputs.keys() == needed


@pytest.mark.parametrize("backend", [kind for kind in NetworkBackend if kind != "python"])
def test_a_network_that_gains_by_batches_has_them_without_a_bound_of_its_own(backend):
    """With `max_queue_size` Triton lets requests wait for up to 0.5 s: see `Admission`."""
    network = ensemble_of(SPEC, Serving(backend=backend)).steps[1]

    config = text_format.Parse(render_config(network), triton.ModelConfig())

    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.HasField("default_queue_policy")


def test_preprocessing_knows_how_many_images_may_be_under_way(configs):
    limit = configs[PREPROCESS].parameters["max_images_under_way"].string_value

    assert limit == str(MAX_IMAGES_UNDER_WAY)


def test_the_ensemble_asks_preprocessing_for_what_nobody_else_asks_for(configs):
    """So preprocessing tells its requests: see `passage.py`."""
    asked = configs[ENSEMBLE].ensemble_scheduling.step[0].output_map.keys()

    assert asked == {"pixels", "geometry", "place"}
    assert {tensor.name for tensor in configs[PREPROCESS].output} == {*asked, "image_hw"}


def test_an_ensemble_has_neither_instances_nor_warm_up(configs):
    """Triton refuses an ensemble that has."""
    assert not configs[ENSEMBLE].instance_group
    assert not configs[ENSEMBLE].model_warmup
    assert configs[ENSEMBLE].platform == "ensemble"


def test_the_committed_snapshots_are_what_the_default_spec_gives(tmp_path):
    spec = PipelineSpec()
    assert spec.skeleton is BODYPOSE_18
    for model in (*ensemble_of(spec).steps, ensemble_of(spec)):
        (tmp_path / model.name).mkdir()
    write_configs(tmp_path, spec)

    rendered = {path.parent.name: path.read_text() for path in tmp_path.glob(f"*/{CONFIG}")}
    committed = {path.parent.name: path.read_text() for path in MODEL_SOURCES.glob(f"*/{CONFIG}")}

    assert rendered == committed, "run `tools build-repo --refresh-configs`"
