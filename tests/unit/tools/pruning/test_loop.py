"""The loop of pruning and retraining: where it stops, and that it goes on when interrupted."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.pruning import loop as stage
from bodypose_tools.pruning.loop import OptimizeError, optimize
from bodypose_tools.pruning.pareto import read_trade_off
from bodypose_tools.pruning.plan import Limits, PruningPlan, Work
from bodypose_tools.pruning.settings import Cost, CostTarget, Importance, PruneError, PruneSettings
from bodypose_tools.training.spec import DistillationConfig
from tests.unit.tools.training.test_train import spec_for

TRAINING_ONLY = Limits(max_ap_drop=0.01, work=Work.TRAINING)


def plan_for(data: Path, steps: int = 2, **changes: object) -> PruningPlan:
    options = {"epochs": 2, "distilled": None, "taylor_batches": 2} | changes
    pruning = PruneSettings(min_filters=8, importance=options.pop("importance", Importance.L2))
    target = CostTarget(Cost.MACS, 0.45)
    return PruningPlan.of(spec_for(data, 4), steps, target, pruning, **options)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Networks that are a number of channels in a file; training adds nothing to them."""

    def write(channels: int, out: Path, stage_name: str, parent: Artifact) -> Artifact:
        with atomic_path(out) as temporary:
            temporary.write_text(f"{channels} {out.parent.name} {stage_name}")
        return Artifact.record(out, stage_name, parent)

    def prune(model, settings, goal, *, out, measured):
        channels = int(channels_in(model) * goal.share)
        if channels < 32:
            raise PruneError("expected more channels")
        write(channels, out, "prune", Artifact.open(model))

    def train(spec, folder, *, resume, say, stage, check_images):
        assert resume
        say("epoch 2/2")
        parent = Artifact.open(spec.pretrained_weights)
        return write(channels_in(parent.path), folder / "best.keras", stage, parent)

    def load(model):
        return SimpleNamespace(name="tiny_network"), None, None

    monkeypatch.setattr(stage, "prune", prune)
    monkeypatch.setattr(stage, "train", train)
    monkeypatch.setattr(stage, "load_network", load)
    monkeypatch.setattr(stage, "network_sizes", lambda model: (9, channels_in(model), 5))
    monkeypatch.setattr(stage, "network_ap", lambda model, *_: 0.3 + channels_in(model) / 1e6)
    monkeypatch.setattr(stage, "can_draw", lambda: False)
    monkeypatch.setattr("bodypose_tools.files.artifacts._versions", dict)  # slow to look up


def channels_in(model: Path) -> int:
    return int(model.read_text().split()[0])


@pytest.fixture
def numbers(tmp_path) -> Path:
    path = tmp_path / "whole.keras"
    path.write_text("1000")
    return path


def run(plan: PruningPlan, model: Path, folder: Path, limits: Limits = TRAINING_ONLY):
    return optimize(plan, model, folder, limits, say=lambda line: None)


@pytest.mark.usefixtures("quick")
def test_each_step_takes_an_equal_share_and_the_last_one_meets_the_target(
    numbers, drawn_coco, tmp_path
):
    found = run(plan_for(drawn_coco), numbers, tmp_path)
    shares = [found.macs_share(point) for point in found.points]
    assert shares == [1, 0.67, 0.45]
    assert found.finished
    assert read_trade_off(tmp_path / "pareto.json") == found
    assert (tmp_path / "pareto.md").read_text().splitlines() == list(found.table())
    for point, parent in zip(found.points[1:], found.points, strict=False):
        pruned = Artifact.open(tmp_path / point.name / "pruned.keras")
        assert pruned.parents == (parent.sha256,)
        assert Artifact.open(tmp_path / point.model).parents == (pruned.sha256,)


@pytest.mark.usefixtures("quick")
def test_it_stops_at_the_limit_and_goes_on_with_a_wider_one(numbers, drawn_coco, tmp_path):
    strict = Limits(max_ap_drop=0.0, work=Work.TRAINING)
    found = run(plan_for(drawn_coco), numbers, tmp_path, strict)
    assert (len(found.points), found.best.name) == (2, "unpruned")
    found = run(plan_for(drawn_coco), numbers, tmp_path)
    assert (len(found.points), found.best.name) == (3, "step_2")


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@pytest.mark.usefixtures("quick")
def test_killed_before_any_file_is_replaced_it_ends_as_if_it_had_not_been(
    numbers, drawn_coco, tmp_path, monkeypatch
):
    plan, replace, left = plan_for(drawn_coco), Path.replace, 10**6

    def replace_or_die(path, target):
        nonlocal left
        left -= 1
        if not left:
            raise Killed
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_or_die)
    whole = run(plan, numbers, tmp_path / "whole")
    files = 10**6 - left
    assert files > 10
    for last in range(1, files + 1):
        folder, left = tmp_path / f"killed_{last}", last
        with pytest.raises(Killed):
            run(plan, numbers, folder)
        left = 10**6
        assert run(plan, numbers, folder) == whole


@pytest.mark.usefixtures("quick")
def test_another_run_in_the_folder_is_refused(numbers, drawn_coco, tmp_path):
    run(plan_for(drawn_coco), numbers, tmp_path)
    with pytest.raises(OptimizeError, match=r"expected training.num_epoch to stay 2, got 3"):
        run(plan_for(drawn_coco, epochs=3), numbers, tmp_path)
    other = tmp_path / "other.keras"
    other.write_text("1001")
    with pytest.raises(OptimizeError, match=r"a run of whole.keras; choose another -r"):
        run(plan_for(drawn_coco), other, tmp_path)


@pytest.mark.usefixtures("quick")
def test_what_no_first_step_can_meet_is_refused_and_a_later_step_ends_the_run(
    numbers, drawn_coco, tmp_path
):
    plan = plan_for(drawn_coco, steps=1)
    with pytest.raises(PruneError, match="more channels"):
        run(
            PruningPlan(1, CostTarget(Cost.MACS, 0.01), plan.pruning, plan.training),
            numbers,
            tmp_path / "one",
        )
    two = run(
        PruningPlan(2, CostTarget(Cost.MACS, 0.01), plan.pruning, plan.training), numbers, tmp_path
    )
    assert (len(two.points), two.finished) == (2, True)


def test_the_settings_name_what_comes_out_and_no_place(tiny_keras, drawn_coco):
    plan = plan_for(
        drawn_coco,
        distilled=DistillationConfig(teacher=tiny_keras, weight=0.25),
        importance=Importance.TAYLOR,
    )
    settings = plan.to_json()
    assert settings["training"]["distillation"] == {"weight": 0.25}
    assert settings["taylor_batches"] == 2
    assert str(drawn_coco) not in json.dumps(settings)
    assert str(tiny_keras) not in json.dumps(settings)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_loop_ends_in_time_goes_on_and_is_timed_later(tiny_keras, drawn_coco, tmp_path):
    """Two steps of training on drawn people, distilled, with the loss choosing the channels."""
    plan = plan_for(
        drawn_coco,
        distilled=DistillationConfig(teacher=tiny_keras, weight=0.5),
        importance=Importance.TAYLOR,
    )
    no_time = Limits(max_ap_drop=1.0, seconds=0.01, work=Work.TRAINING)
    said: list[str] = []
    found = optimize(plan, tiny_keras, tmp_path, no_time, say=said.append)
    assert (len(found.points), found.finished) == (1, False)
    assert said[-1].startswith("the time is up")

    for seconds in (3.0, None):  # a start gets on by an epoch, however slow the machine is
        limits = Limits(max_ap_drop=1.0, seconds=seconds, work=Work.TRAINING)
        found = run(plan, tiny_keras, tmp_path, limits)
    assert found.finished
    assert [point.name for point in found.points] == ["unpruned", "step_1", "step_2"]
    rows = (tmp_path / "step_2/run/log.csv").read_text().splitlines()
    assert len(rows) == 1 + plan.training.num_epoch
    assert (tmp_path / "pareto.png").stat().st_size > 10_000

    found = run(plan, tiny_keras, tmp_path, Limits(max_ap_drop=1.0, rounds=2, work=Work.TIMING))
    assert found.finished
    assert found.runtimes == ("openvino", "onnxruntime")
    for point in found.points[1:]:
        assert point.times_as_fast("openvino") > 0
        graph = Artifact.open(tmp_path / point.name / "model.onnx")
        assert graph.parents == (point.sha256,)
        assert point.speed["models"][1]["sha256"] == graph.sha256


def test_every_step_takes_the_same_share_and_something(drawn_coco):
    """0.45 in two steps; a network that is already smaller loses a hundredth at least."""
    plan = plan_for(drawn_coco)
    goals = [plan.goal(1, 1000, 1000), plan.goal(2, 1000, 600), plan.goal(2, 1000, 300)]
    assert [goal.share for goal in goals] == pytest.approx([0.45**0.5, 0.45 / 0.6, 0.99])
    assert {goal.cost for goal in goals} == {Cost.MACS}


@pytest.mark.parametrize(("epochs", "every"), [(2, 1), (10, 1), (11, 2), (100, 4), (None, 1)])
def test_a_steps_training_has_ten_checkpoints_at_least(drawn_coco, epochs, every):
    """Of a spec with 4 epochs and a checkpoint every 4."""
    spec = spec_for(drawn_coco, 4).model_copy(update={"checkpoint_n_epoch": 4})
    plan = PruningPlan.of(
        spec,
        1,
        CostTarget(Cost.MACS, 0.5),
        PruneSettings(),
        epochs=epochs,
        distilled=None,
        taylor_batches=3,
    )
    assert plan.training.num_epoch == (epochs or 4)
    assert plan.training.checkpoint_n_epoch == every
    assert plan.training.load_graph is True
    assert "taylor_batches" not in plan.to_json()


def test_what_may_differ_between_the_starts_of_a_run_is_no_setting(drawn_coco):
    training = plan_for(drawn_coco).to_json()["training"]
    places = {"pretrained_weights", "load_graph", "checkpoint_n_epoch", "devices"}
    places |= {"validation_every_n_epoch", "draw_every_n_epoch"}
    assert places & set(training) == set()
    assert {"workers", "image_cache_mib"} & set(training["dataloader"]) == set()
    assert "root_data_path" not in training["dataloader"]["dataset_config"]
