"""TAO's command lines: each runs as ours, or gets one line."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.tao_options import TAO_OPTIONS, our_words
from pose_runtime.errors import PoseError

# The lines of NVIDIA's pages and notebook on BodyPoseNet with `tools` for `tlt bpnet` -> what the
# one line of the answer names: the first file that is missing, or what the machine has not.
LINES = {
    "train -e $S/train.yaml -r $W/unpruned -k KEY --gpus 1": "train.yaml",
    "train --experiment_spec_file $S/train.yaml --results_dir $W/run -ll INFO": "train.yaml",
    "train -e $S/retrain.yaml -r $W/retrain --gpus 2 --gpu_index 0 1 --use_amp": "retrain.yaml",
    "evaluate --inference_spec $W/infer.yaml --model_filename $M --dataset_spec $W/coco_spec.json"
    " --results_dir $W/eval -k KEY": "people.json",
    "evaluate -i $W/infer.yaml -m $M -d $W/coco_spec.json --dataset coco -ll WARNING": "people",
    "inference --inference_spec $W/infer.yaml --model_filename $M --input_type dir"
    " --input $W --results_dir $W/found --dump_visualizations -k KEY": "model.keras",
    "inference -i $W/infer.yaml -m $M --input_type json --input $W/list.json"
    " --image_root_path $W --results_dir $W/found": "model.keras",
    "prune -m $M -o $W/pruned.keras -eq union -pth 0.05 -k KEY": "model.keras",
    "prune -m $M -o $W/pruned.keras -r $W -v -n L2 -eq arithmetic_mean -pg 8 -nf 16 -pth 0.2"
    " -el paf_out heatmap_out block_1?_* -k KEY": "model.keras",
    "export -m $M -o $W/model.onnx -k KEY -d 288,384,3 -e $S/retrain.yaml -t tfonnx"
    " --data_type int8 --engine_file $W/model.engine --cal_image_dir $W"
    " --cal_cache_file $W/cal.bin --cal_data_file $W/cal.tensorfile --batch_size 8 --batches 250"
    " --max_batch_size 1 --data_format channels_last --sdk_compatible_model": "package tensorrt",
    "export -m $M -o $W/model.onnx --backend onnx -i channels_last -s --static_batch_size -1"
    " --force_ptq -u 4 --opt_batch_size 1 --max_workspace_size 2147483648 -r $W -v": "model.keras",
    "export -m $M --strict_type_constraints --upsample_ratio=4 --data_type fp16": "--sdk-comp",
    "sample_calibration_images -a $W/none.json -i $W -o $W/cal -n 2000 -pth 1 --randomize": "none",
    "sample_calibration_images -a $W/none.json -i $W -o $W/cal -kth 5 -r": "none",
}


@pytest.fixture
def work(tmp_path) -> Path:
    (tmp_path / "infer.yaml").write_text(
        "input_shape: [288, 384]\nkeep_aspect_ratio_mode: pad_image_input\n"
        "multi_scale_inference: False\nheatmap_threshold: 0.1\n"
    )
    part = {"images_root_dir_path": "images", "annotation_root_dir_path": "people.json"}
    (tmp_path / "images").mkdir()
    (tmp_path / "coco_spec.json").write_text(
        json.dumps(
            {"root_directory_path": str(tmp_path), "train_data": part, "test_data": part},
        )
    )
    (tmp_path / "list.json").write_text("[]")
    return tmp_path


def run(line: str, work: Path):
    for name, path in (("$W", work), ("$S", work / "specs"), ("$M", work / "model.keras")):
        line = line.replace(name, str(path))
    return CliRunner().invoke(app, line.split())


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_taos_comes_as_far_as_its_files(line, work, without_nvidia):
    result = run(line, work)

    assert result.exit_code == 1, result.output
    assert LINES[line] in str(result.exception)
    assert isinstance(result.exception, PoseError)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("mode", ["train", "test"])
def test_dataset_convert_says_that_nothing_is_to_be_converted(mode, work):
    result = run(
        f"dataset_convert -m {mode} -o $W/{mode} -r $W --generate_masks --check_files -p 1 -s 0"
        " --dataset_spec $W/coco_spec.json -k KEY",
        work,
    )

    assert result.exit_code == 0, result.output
    assert "nothing to convert" in result.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("export -m $M -t uff", "expected onnx or tfonnx, got uff"),
        ("export -m $M --data_format channels_first", "expected channels_last or nhwc"),
        ("export -m $M -u four", "expected an integer, got four"),
        ("export -m $M --static_batch_size", "expected a value, got none"),
        ("export -m $M --data_type int4", "int4"),
        ("evaluate -m $M -d $W/coco_spec.json --dataset voc", "expected coco, got voc"),
        ("inference -m $M --input_type video --input $W -r $W/out", "got video"),
        ("train -e $W/a.yaml -r $W/out -ll LOUD", "got LOUD"),
        ("train -e $W/a.yaml -r $W/out --gpus two", "parse string as an integer"),
        ("dataset_convert -m val -d $W/coco_spec.json", "val"),
        ("prune -m $M -o $W/a.keras -el", "expected a value, got none"),
    ],
)
def test_a_wrong_value_is_a_usage_error(line, said, work):
    result = run(line, work)

    assert result.exit_code == 2
    assert said in re.sub(r"[│\s]+", " ", result.output)


def test_an_option_without_a_meaning_is_named_in_one_line(work):
    result = run("export -m $M -t tfonnx -e spec.yaml --force_ptq -k KEY", work)

    said = result.stderr.splitlines()
    assert [line.split()[0] for line in said] == ["-t", "-e", "--force_ptq", "-k"]
    assert all(" is not used: " in line for line in said)


@pytest.mark.parametrize(
    ("command", "line", "ours"),
    [
        ("prune", "-el a b -pg 8 -el c", "-el a -el b -pg 8 -el c"),
        ("prune", "-el block_1a_conv_1 paf_out block_1b_*", "-el block_1a_conv -el block_1b_*"),
        ("prune", "-m -k -o x", "-m -k -o x"),  # the value of -m
        ("inference", "--input photos -m a.onnx -r out", "a.onnx photos -o out"),
        ("inference", "--results_dir=out --model_filename=a", "a --results_dir=out"),
        ("evaluate", "-i images -m a.onnx", "a.onnx --images images"),
        ("train", "-ll DEBUG -e a.yaml", "--verbose -e a.yaml"),
        ("prune", "-- -el a", "-- -el a"),
        ("serve", "-k a", "-k a"),  # a command that TAO has not
    ],
)
def test_words_of_tao_become_ours(command, line, ours):
    taking_values = ["-m", "-o", "-e", "-r", "--results-dir", "-pg"]

    assert our_words(command, line.split(), taking_values) == ours.split()


def test_the_inference_spec_becomes_options(work):
    (work / "infer.yaml").write_text(
        "keep_aspect_ratio_mode: adjust_network_input\nmulti_scale_inference: true\n"
    )

    words = our_words("evaluate", ["-i", str(work / "infer.yaml")], [])

    assert words == ["--keep-aspect", "--multi-scale"]


@pytest.mark.parametrize(
    ("command", "line", "ours"),
    [
        ("evaluate", "-i $S", "spec.keras"),
        ("evaluate", "-i $S -m given.keras", "given.keras"),
        ("evaluate", "given.keras -i $S", "given.keras"),
        ("inference", "-i $S --input photos", "spec.keras photos"),
    ],
)
def test_the_inference_spec_names_the_model_where_the_line_does_not(command, line, ours, work):
    (work / "infer.yaml").write_text("model_path: spec.keras\n")

    words = our_words(command, line.replace("$S", str(work / "infer.yaml")).split(), [])

    assert words == ours.split()


def test_a_spec_with_an_unknown_key_is_one_line(work):
    (work / "infer.yaml").write_text("heat_threshold: 0.1\n")

    result = run("evaluate -i $W/infer.yaml -m $M -d $W/coco_spec.json", work)

    assert "did you mean heatmap_threshold?" in str(result.exception)


def test_help_does_not_show_what_is_taos():
    for command, options in TAO_OPTIONS.items():
        page = CliRunner().invoke(app, [command, "--help"]).output
        for option in options:
            shown = [name for name in option.names if option.why and f" {name} " in page]
            assert not shown or command == "dataset-convert"


def test_the_page_for_people_from_tao_names_every_option():
    page = (Path(__file__).parents[3] / "docs/coming-from-tao.md").read_text()
    missing = {
        f"{command} {option.names[-1]}"
        for command, options in TAO_OPTIONS.items()
        for option in options
        if f"`{option.names[-1]}`" not in page.replace("_", "-")
    }
    assert not missing
