"""A repository's settings are read from its configs, and written into them."""

from dataclasses import replace

import pytest

from bodypose_tools.files.json_records import RecordError
from bodypose_tools.repository.build import CONFIG, RepositoryError, build_repository
from bodypose_tools.repository.check import problems_of
from bodypose_tools.repository.pbtxt import NETWORK, read_config
from bodypose_tools.repository.retuning import retune, tuning_of
from bodypose_tools.repository.settings import NetworkBackend
from bodypose_tools.repository.targets import cpu, cuda_in_container, tuned
from bodypose_tools.repository.tuning import UNTUNED, UNTUNED_CUDA, UNTUNED_CUDA_DECODING, Tuning
from pose_runtime.spec import PipelineSpec

TUNED = Tuning(
    preprocess_instances=2,
    network_instances=3,
    grouping_instances=4,
    network_batch=4,
    queue_delay_us=700,
    threads=2,
    precision="bf16",
)


@pytest.mark.parametrize(
    ("serving", "tuning"),
    [
        (tuned(UNTUNED), UNTUNED),
        (tuned(TUNED), TUNED),
        (tuned(UNTUNED_CUDA), UNTUNED_CUDA),
        (cuda_in_container(tuning=UNTUNED_CUDA_DECODING), UNTUNED_CUDA_DECODING),
        (
            cpu(tuning=replace(UNTUNED, network_instances=2, threads=3)),
            replace(UNTUNED, network_instances=2, threads=3),
        ),
        (
            cpu(backend=NetworkBackend.OPENVINO, tuning=replace(UNTUNED, threads=3)),
            replace(UNTUNED, threads=3),
        ),
    ],
)
def test_settings_are_read_back(tmp_path, tiny_onnx, serving, tuning):
    build_repository(tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec()), tmp_path / "r", serving)

    assert tuning_of(tmp_path / "r") == tuning


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        (NetworkBackend.ONNXRUNTIME, "intra_op_thread_count"),
        (NetworkBackend.OPENVINO, "INFERENCE_NUM_THREADS"),
    ],
)
def test_the_threads_of_a_backend_have_its_own_name(tmp_path, tiny_onnx, backend, name):
    serving = cpu(backend=backend, tuning=replace(UNTUNED, threads=3))
    build_repository(tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec()), tmp_path / "r", serving)

    config = read_config(tmp_path / "r" / NETWORK / CONFIG)

    assert config.parameters[name].string_value == "3"


def test_other_settings_leave_a_sound_repository(tmp_path, tiny_onnx):
    build_repository(tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec()), tmp_path / "r")

    configs = retune(tmp_path / "r", TUNED)

    assert configs[NETWORK].instance_group[0].count == 3
    assert tuning_of(tmp_path / "r") == TUNED
    assert problems_of(tmp_path / "r") == []


def test_a_file_that_somebody_changed_is_not_overwritten(tmp_path, tiny_onnx):
    build_repository(tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec()), tmp_path / "r")
    path = tmp_path / "r" / NETWORK / CONFIG
    path.write_text(path.read_text() + "\n# mine\n")

    with pytest.raises(RepositoryError, match=r"config\.pbtxt"):
        retune(tmp_path / "r", TUNED)

    assert read_config(path).instance_group[0].count == 1


@pytest.mark.parametrize(
    ("right", "wrong"), [("instance_group", "other"), ("count: 1", "count: x")]
)
def test_a_config_that_triton_would_not_read_is_refused_in_one_line(
    tmp_path, tiny_onnx, right, wrong
):
    repository = tmp_path / "repository"
    build_repository(tiny_onnx(tmp_path / "tiny.onnx", PipelineSpec()), repository)
    config = repository / NETWORK / CONFIG
    config.write_text(wrong)
    with pytest.raises(RecordError, match="expected configs as `tools build-repo` writes them"):
        tuning_of(repository)
