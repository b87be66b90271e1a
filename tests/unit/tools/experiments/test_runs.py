"""Tables say what runs' records say; the fit of data scaling finds a known curve again."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.data.coco import read_coco
from bodypose_tools.experiments import views as mode_comparison
from bodypose_tools.experiments.costs import with_sizes
from bodypose_tools.experiments.data_scaling import scaling_record, scaling_table
from bodypose_tools.experiments.runs import (
    ExperimentError,
    Run,
    ablation_record,
    ablation_table,
    changes,
    read_run,
)
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.networks.network import build_network
from bodypose_tools.training.setup import chosen_records
from bodypose_tools.training.spec import TrainSpec, on_fraction
from tests.unit.tools.training.test_train import spec_for

NUMBERS = {"AP50": 0.6, "AP75": 0.4, "APm": 0.3, "APl": 0.5}


def make_run(
    folder: Path, spec: TrainSpec, ap: float, images: int = 2293, parents: Sequence[Path] = ()
) -> Path:
    folder.mkdir(parents=True)
    best = folder / "best.keras"
    best.write_bytes(folder.name.encode())
    settings = {
        "network_hw": (288, 384),
        "epoch": spec.num_epoch - 1,
        "val": {"AP": ap, **NUMBERS},
        "data": {"train_images": images},
        "spec": json.loads(spec.model_dump_json()),
        "skeleton": spec.skeleton.to_json(),
    }
    Artifact.record(best, "train", *map(Artifact.open, parents), settings=settings)
    return folder


@pytest.fixture
def spec(drawn_coco) -> TrainSpec:
    return spec_for(drawn_coco, 100)


def test_a_run_is_read_from_its_record(spec, tmp_path):
    run = read_run(make_run(tmp_path / "first", spec, 0.3))
    assert (run.name, run.epoch, run.num_epoch, run.train_images) == ("first", 99, 100, 2293)
    assert run.metrics == {"AP": 0.3, **NUMBERS}


def test_the_record_alone_is_enough(spec, tmp_path):
    """Networks of a hundred runs need not leave the machine that trained them."""
    folder = make_run(tmp_path / "far", spec, 0.3)
    (folder / "best.keras").unlink()
    run = with_sizes(read_run(folder), folder)
    network = build_network(spec.model, spec.skeleton)
    assert (run.metrics["AP"], run.parameters) == (0.3, network.count_params())
    assert "| far | - | 100 (99) | 2,293 | 5.71 | 3.14 |  | 0.300 |" in ablation_table(
        ablation_record([run])
    )


def test_costs_of_a_graph_that_came_from_a_file_stay_unknown(spec, tmp_path):
    pruned = spec.model_copy(update={"load_graph": True, "pretrained_weights": Path("a.keras")})
    folder = make_run(tmp_path / "far", pruned, 0.3)
    (folder / "best.keras").unlink()
    run = with_sizes(read_run(folder), folder)
    assert (run.parameters, run.gmacs) == (None, None)


def test_a_key_that_came_after_a_run_has_its_default_there(spec, tmp_path):
    model = spec.model.model_copy(update={"heatmap_loss": "focal"})
    folder = make_run(tmp_path / "old", spec, 0.3)
    record = folder / "best.keras.json"
    old = json.loads(record.read_text())
    del old["settings"]["spec"]["model"]["heatmap_loss"]
    record.write_text(json.dumps(old))
    new = make_run(tmp_path / "new", spec.model_copy(update={"model": model}), 0.3)
    assert changes(read_run(new), read_run(folder)) == {"model.heatmap_loss": "focal"}
    same = make_run(tmp_path / "same", spec, 0.3)
    assert changes(read_run(same), read_run(folder)) == {}


def test_what_is_no_run_is_refused(spec, tmp_path):
    with pytest.raises(
        ExperimentError, match=r"expected a run of `tools train`, got no best\.kera"
    ):
        read_run(tmp_path)


def test_changes_are_the_keys_that_matter(spec, tmp_path):
    optimizer = spec.optimizer.model_copy(update={"weight_decay": 0.5})
    loader = spec.dataloader.model_copy(update={"workers": 9})
    other = spec.model_copy(update={"optimizer": optimizer, "dataloader": loader, "devices": 4})
    first = read_run(make_run(tmp_path / "a", spec, 0.3))
    second = read_run(make_run(tmp_path / "b", other, 0.4))
    assert changes(second, first) == {"optimizer.weight_decay": 0.5}


def test_the_same_weights_elsewhere_are_no_change_and_others_are(spec, tmp_path):
    def run(name: str, weights: bytes) -> Run:
        folder = tmp_path / "weights" / name
        folder.mkdir(parents=True)
        (folder / "movenet.npz").write_bytes(weights)
        told = spec.model_copy(update={"pretrained_weights": folder / "movenet.npz"})
        return read_run(make_run(tmp_path / name, told, 0.3, parents=[folder / "movenet.npz"]))

    first, moved, other = run("first", b"1"), run("moved", b"1"), run("other", b"2")
    assert changes(moved, first) == {}
    assert changes(other, first) == {
        "pretrained_weights": str(tmp_path / "weights/other/movenet.npz")
    }


def test_the_table_has_a_row_for_each_run(spec, tmp_path):
    model = spec.model.model_copy(update={"stages": 4})
    runs = [
        read_run(make_run(tmp_path / "base", spec, 0.3)),
        read_run(make_run(tmp_path / "four", spec.model_copy(update={"model": model}), 0.31)),
    ]
    lines = ablation_table(ablation_record(runs)).splitlines()
    assert lines[2].startswith("| base | - | 100 (99) | 2,293 |")
    assert lines[3].startswith("| four | stages 4 | 100 (99) |")
    assert lines[3].endswith("| 0.310 | 0.600 | 0.400 | 0.300 | 0.500 |")


def scaling_runs(spec: TrainSpec, folder: Path, ap_of) -> list[Path]:
    runs = []
    for fraction in (0.125, 0.25, 0.5, 1.0):
        images = round(2293 * fraction)
        name = folder / f"data_{fraction:g}"
        runs.append(make_run(name, on_fraction(spec, fraction), ap_of(images), images))
    return runs


def test_the_fit_finds_a_known_curve_and_predicts_along_it(spec, tmp_path):
    runs = scaling_runs(spec, tmp_path, lambda images: 0.03 * float(np.log2(images)))
    record = scaling_record([read_run(run) for run in reversed(runs)])
    assert [point["images"] for point in record["points"]] == [287, 573, 1146, 2293]
    assert [point["epochs"] for point in record["points"]] == [800, 400, 200, 100]
    logarithm, power = record["fits"]
    assert (logarithm["a"], logarithm["b"]) == pytest.approx((0, 0.03), abs=1e-4)
    assert logarithm["error_when_predicting_largest"] == pytest.approx(0, abs=1e-4)
    expected = 0.03 * np.log2(56_599)
    assert logarithm["predicted_ap"] == pytest.approx(expected, abs=1e-3)
    assert power["predicted_ap"] < logarithm["predicted_ap"]  # it may never exceed 1
    said = record["prediction"]
    assert (said["low"], said["high"]) == (power["predicted_ap"], logarithm["predicted_ap"])
    assert "| prediction for 56,599 by the logarithm | | 0.474 |" in scaling_table(record)


def test_a_power_law_is_found_again(spec, tmp_path):
    runs = scaling_runs(spec, tmp_path, lambda images: 1 - 2 * images**-0.15)
    power = scaling_record([read_run(run) for run in runs])["fits"][1]
    assert power["largest_residual"] == pytest.approx(0, abs=1e-4)
    assert power["predicted_ap"] == pytest.approx(1 - 2 * 56_599**-0.15, abs=1e-3)


def test_runs_of_different_recipes_are_not_fitted(spec, tmp_path):
    runs = scaling_runs(spec, tmp_path, lambda images: 0.1)
    model = spec.model.model_copy(update={"stages": 5})
    odd = make_run(tmp_path / "odd", spec.model_copy(update={"model": model}), 0.1, 99)
    with pytest.raises(ExperimentError, match=r"odd: expected the recipe of data_1, .*model\.stag"):
        scaling_record([read_run(run) for run in (*runs, odd)])
    with pytest.raises(ExperimentError, match="expected at least 3 runs, got 2"):
        scaling_record([read_run(run) for run in runs[:2]])


def test_the_command_writes_numbers_and_picture(spec, tmp_path):
    runs = scaling_runs(spec, tmp_path, lambda images: 0.03 * float(np.log2(images)))
    outputs = ["--json", "s.json", "--picture", "s.png"]
    arguments = [str(tmp_path / a) if a.startswith("s.") else a for a in outputs]
    result = CliRunner().invoke(app, ["data-scaling", *map(str, runs), *arguments])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "s.json").read_text())["schema"] == "bodypose-data-scaling/1"
    assert cv2.imread(str(tmp_path / "s.png")).std() > 10
    assert result.output.count("\n| ") == 6  # and the head is the first line


def test_a_share_of_the_images_is_part_of_a_larger_share(drawn_coco):
    every = read_coco(drawn_coco / "people.json", drawn_coco, spec_for(drawn_coco, 1).skeleton) * 50

    def chosen(fraction: float) -> list[int]:
        spec = on_fraction(spec_for(drawn_coco, 1), fraction)
        places = {id(record): place for place, record in enumerate(numbered)}
        return [places[id(record)] for record in chosen_records(spec, numbered)]

    from dataclasses import replace

    numbered = [replace(record) for record in every]
    eighth, half = chosen(0.125), chosen(0.5)
    assert (len(eighth), len(half), len(chosen(1))) == (12, 50, 100)
    assert set(eighth) < set(half)
    assert eighth == chosen(0.125)
    assert eighth != sorted(range(12))


def test_a_share_keeps_the_number_of_steps(spec):
    small = on_fraction(spec, 0.25)
    assert small.num_epoch == 400
    assert small.checkpoint_n_epoch == 8
    assert small.dataloader.dataset_config.train_fraction == 0.25


def test_modes_are_timed_against_strict(drawn_coco, monkeypatch, tmp_path):
    """The table's own arithmetic; what the modes find is tested with ideal fields."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(mode_comparison.time, "perf_counter", lambda: float(next(ticks)))
    asked: list[str] = []

    def finder(view: str) -> Iterator[tuple[str, int]]:
        for number in range(2):
            asked.append(view)
            yield view, number

    found, seconds = mode_comparison.in_turn([finder("a"), finder("b")], 2)
    assert found == [[("a", 0), ("a", 1)], [("b", 0), ("b", 1)]]
    assert asked == ["a", "b", "a", "b"]
    assert seconds.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    scores = {"AP": 0.3, **NUMBERS}
    rows = [{"mode": "strict", "latency_ratio": 1.0, "metrics": scores}]
    assert mode_comparison.modes_table({"modes": rows}).splitlines()[2] == (
        "| strict | 1.00 | 0.300 | 0.600 | 0.400 | 0.300 | 0.500 |"
    )
