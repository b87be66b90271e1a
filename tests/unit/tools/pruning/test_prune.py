"""Pruning: proved on small graphs that can be checked by hand, and on our own network."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from typer.testing import CliRunner

from bodypose_tools.cli import app
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.networks.keras_files import load_network, save_network
from bodypose_tools.networks.network import build_network
from bodypose_tools.networks.settings import NetworkConfig
from bodypose_tools.pruning.channel_graph import (
    ChannelGraph,
    UnknownLayerError,
    count_macs,
    rebuild,
    trace_channels,
)
from bodypose_tools.pruning.prune import Selection, prune
from bodypose_tools.pruning.settings import Cost, CostTarget, Importance, PruneError, PruneSettings
from bodypose_tools.runtimes.predictors import open_predictor
from bodypose_tools.training.train import train
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec
from tests.unit.tools.training.test_train import from_network, spec_for

HW = (64, 96)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    keras.utils.set_random_seed(3)
    path = tmp_path_factory.mktemp("model") / "whole.keras"
    network = build_network(NetworkConfig(stages=2), BODYPOSE_18)
    save_network(network, path, "train", PipelineSpec(network_hw=HW), settings={})
    return path


def pixels(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *HW, 3), np.uint8)


@pytest.mark.slow  # test_random_graphs.py has quick ones
def test_pruning_nothing_gives_bit_equal_outputs(model):
    network = load_network(model)[0]
    graph = trace_channels(network, HW)
    same = rebuild(network, graph, graph.keep_all())
    for one, two in zip(
        network.predict_on_batch(pixels()), same.predict_on_batch(pixels()), strict=True
    ):
        assert np.array_equal(one, two)


def test_the_graph_counts_what_keras_counts(model):
    network = load_network(model)[0]
    graph = trace_channels(network, HW)
    assert graph.count_params(graph.keep_all()) == network.count_params()
    assert graph.count_macs(graph.keep_all()) == count_macs(network, HW)


@pytest.mark.slow
@pytest.mark.parametrize("cost", list(Cost))
def test_a_target_is_met_and_the_file_is_a_normal_one(model, tmp_path, cost):
    made, report = prune(
        model, PruneSettings(), CostTarget(cost, 0.6), out=tmp_path / "pruned.keras"
    )
    before, after = report.macs if cost is Cost.MACS else report.params
    assert 0.4 < after / before <= 0.6
    network, pipeline, artifact = load_network(made.path)
    assert (network.count_params(), count_macs(network, HW)) == (report.params[1], report.macs[1])
    assert artifact.parents == (Artifact.open(model).sha256,)
    peaks, limb_scores = open_predictor(made.path)[0](pixels())
    assert pipeline.peaks.check(peaks).shape[0] == 1
    assert np.isfinite(limb_scores).all()


def hand_made(kind: str) -> keras.Model:
    """Eight channels whose kernels are ever smaller, through each way that channels can meet."""
    images = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 256)(images)
    first = layers.Conv2D(8, 3, padding="same", name="first")
    second = layers.Conv2D(8, 3, padding="same", name="second")
    x = layers.ReLU()(first(x))
    if kind == "residual":
        x = layers.Add()([x, second(x)])
    elif kind == "depthwise":
        x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
        x = layers.BatchNormalization()(x)
    elif kind == "concat":
        x = layers.Concatenate()([second(x), x])
    elif kind == "shared":
        x = layers.Concatenate()([second(x), second(layers.ReLU()(second(x)))])
    model = keras.Model(images, layers.Conv2D(2, 1, name="out")(x))
    rng = np.random.default_rng(1)
    for layer in model.layers:
        layer.set_weights([rng.normal(0, 0.3, w.shape) ** 2 for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("kind", ["plain", "residual", "depthwise", "concat", "shared"])
def test_a_pruned_graph_is_the_whole_one_with_the_removed_channels_at_zero(kind):
    """Every weight that reads a removed channel is zero in the reference: it is not heard of."""
    network = hand_made(kind)
    graph = trace_channels(network, HW)
    keep = graph.keep_all()
    removed = np.flatnonzero(~graph.protected)
    keep[removed[np.random.default_rng(5).permutation(len(removed))[: len(removed) // 2]]] = False
    pruned = rebuild(network, graph, keep)
    assert pruned.count_params() < network.count_params()

    silent = keras.models.clone_model(network)
    silent.set_weights(network.get_weights())
    for layer in graph.weighted.values():
        target = silent.get_layer(layer.name)
        weights = target.get_weights()
        if len(layer.inputs) and weights[0].ndim == 4 and layer.makes_channels:
            weights[0][:, :, ~keep[layer.inputs], :] = 0
            target.set_weights(weights)
    assert np.allclose(
        pruned.predict_on_batch(pixels()), silent.predict_on_batch(pixels()), atol=1e-4, rtol=1e-5
    )


def test_a_layer_it_does_not_know_is_refused_by_name():
    images = keras.Input((None, None, 3), dtype="uint8")
    x = layers.Conv2D(8, 1)(layers.Rescaling(1.0)(images))
    x = layers.LayerNormalization(name="strange")(x)
    with pytest.raises(UnknownLayerError, match="strange"):
        trace_channels(keras.Model(images, layers.Conv2D(2, 1)(x)), HW)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("small") / "whole.keras"
    save_network(hand_made("concat"), path, "train", PipelineSpec(network_hw=HW), settings={})
    return path


def test_a_threshold_that_collapses_everything_is_refused_with_the_range(small):
    settings = PruneSettings(granularity=2, min_filters=2)
    with pytest.raises(PruneError, match=r"expected below [\d.]+, where every layer falls"):
        prune(small, settings, 5.0, out=None)


def test_taos_spelling_reports_and_writes_nothing_on_a_dry_run(small, tmp_path):
    out = tmp_path / "pruned.keras"
    files = ["-m", str(small), "-o", str(out)]
    options = ["-eq", "union", "-pth", "0.5", "-nf", "2", "-pg", "2"]
    result = CliRunner().invoke(app, ["prune", *files, *options, "--dry-run"])
    assert result.exit_code == 0, result.output
    assert "parameters" in result.output
    assert not out.exists()


def test_a_loss_counts_per_mac_that_is_saved(tmp_path):
    """Of two layers that matter alike, the one on four times as many cells loses its filters."""
    images = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x = layers.Conv2D(32, 3, padding="same", name="large")(layers.Rescaling(1 / 256)(images))
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(32, 3, padding="same", name="small")(x)
    network = keras.Model(images, layers.Conv2D(2, 1, name="out")(x))
    path = tmp_path / "whole.keras"
    save_network(network, path, "train", PipelineSpec(network_hw=HW), settings={})
    losses = {"large": np.linspace(1, 2, 32), "small": np.linspace(1, 2, 32), "out": np.ones(2)}

    def widths(goal: float | CostTarget) -> dict[str, int]:
        settings = PruneSettings(granularity=1, min_filters=2, importance=Importance.TAYLOR)
        _, report = prune(path, settings, goal, out=None, measured=lambda *_: losses)
        return {layer.name: layer.after for layer in report.layers}

    assert widths(1.5) == {"large": 16, "small": 16, "out": 2}
    saved = widths(CostTarget(Cost.MACS, 0.7))
    assert saved["large"] < 28 < saved["small"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_pruned_network_is_retrained_with_its_teacher(tiny_keras, drawn_coco, tmp_path):
    goal, pruned_file = CostTarget(Cost.PARAMS, 0.7), tmp_path / "pruned.keras"
    made, _ = prune(tiny_keras, PruneSettings(min_filters=8), goal, out=pruned_file)
    teacher = {"distillation": {"teacher": str(tiny_keras), "weight": 0.5}}
    spec = spec_for(drawn_coco, 2, **teacher, **from_network(made.path))
    best = train(spec, tmp_path / "run", resume=False, say=lambda line: None, stage="retrain")
    assert best.stage == "retrain"
    assert best.parents == (made.sha256, Artifact.open(tiny_keras).sha256)
    pruned, again = load_network(made.path)[0], load_network(best.path)[0]
    assert again.count_params() == pruned.count_params()
    assert not np.array_equal(again.get_weights()[0], pruned.get_weights()[0])


# Which channels stay: of one layer whose losses are given


LOSSES = [3, 1, 4, 1.5, 9, 2.6, 5.3, 5]


def selection_of(
    settings: PruneSettings, saved: Cost | None = None, **losses: list[float]
) -> tuple[Selection, ChannelGraph]:
    """Convolutions in a row, each with so many channels as it has losses."""
    images = keras.Input((None, None, 3), dtype="uint8", name="pixels")
    x = layers.Rescaling(1 / 256)(images)
    for name, values in losses.items():
        x = layers.Conv2D(len(values), 3, padding="same", name=name)(x)
    graph = trace_channels(keras.Model(images, layers.Conv2D(2, 1, name="out")(x)), HW)
    stats = {name: np.array(values, float) for name, values in losses.items()} | {"out": np.ones(2)}
    return Selection(graph, stats, settings, saved), graph


def kept(threshold: float, layer: str = "first", stronger: float = 1, **settings) -> list[int]:
    chosen = PruneSettings(importance=Importance.TAYLOR, **settings)
    second = [stronger * loss for loss in LOSSES]
    selection, graph = selection_of(chosen, first=LOSSES, second=second)
    (call,) = [call for call in graph.producers if call.name == layer]
    return np.flatnonzero(selection.keep(threshold)[call.outputs]).tolist()


def test_the_strongest_channels_stay():
    assert kept(4.5, granularity=1, min_filters=1) == [4, 6, 7]


def test_what_stays_of_a_layer_is_rounded_up_to_the_granularity():
    assert kept(4.5, stronger=4, granularity=4, min_filters=1) == [2, 4, 6, 7]


def test_a_channel_at_the_threshold_goes():
    assert kept(5, granularity=1, min_filters=1) == [4, 6]


def test_the_strongest_of_a_layer_stay_however_high_the_threshold():
    assert kept(5.2, stronger=4, granularity=1, min_filters=5) == [0, 2, 4, 6, 7]


@pytest.mark.parametrize("pattern", ["first", "fir*"])
def test_an_excluded_layer_stays_whole(pattern):
    options = {"granularity": 1, "min_filters": 1, "excluded_layers": (pattern,)}
    assert kept(4.5, **options) == list(range(8))
    assert kept(4.5, "second", **options) == [4, 6, 7]


def test_a_layer_that_does_not_exist_cannot_be_excluded():
    with pytest.raises(PruneError, match=r"got frist;\s+close: first"):
        kept(4.5, excluded_layers=("frist",))


@pytest.mark.parametrize("cost", list(Cost))
def test_a_target_below_the_floor_is_refused_with_what_remains_there(cost):
    settings = PruneSettings(granularity=1, min_filters=4, importance=Importance.TAYLOR)
    selection, _ = selection_of(settings, first=LOSSES, second=LOSSES)
    with pytest.raises(PruneError, match=rf"--target-{cost}: expected at least 0\.\d+, .*got 0.1;"):
        selection.threshold_for(CostTarget(cost, 0.1))


def test_a_target_is_met_by_the_smallest_threshold_that_meets_it():
    settings = PruneSettings(granularity=1, min_filters=1, importance=Importance.TAYLOR)
    selection, graph = selection_of(settings, first=LOSSES, second=LOSSES)
    threshold = selection.threshold_for(CostTarget(Cost.PARAMS, 0.5))
    whole = graph.count_params(graph.keep_all())
    shares = [
        graph.count_params(selection.keep(value)) / whole
        for value in (threshold, max(loss for loss in LOSSES if loss < threshold))
    ]
    assert shares[0] <= 0.5 < shares[1]


@pytest.mark.parametrize(("granularity", "first", "last"), [(1, 1, 5.3), (2, 1.5, 5)])
def test_the_usable_range_is_from_the_first_channel_to_the_last(granularity, first, last):
    settings = PruneSettings(granularity=granularity, min_filters=1, importance=Importance.TAYLOR)
    selection, graph = selection_of(settings, first=LOSSES)
    low, collapse = selection.usable_range()
    assert (low, collapse) == (first, last)
    assert selection.keep(low - 0.01).sum() == graph.num_channels
    assert selection.keep(low).sum() < graph.num_channels


@pytest.mark.parametrize("end", ["first", "last"])
def test_a_target_at_an_end_of_the_range_has_that_ends_threshold(end):
    settings = PruneSettings(granularity=1, min_filters=1, importance=Importance.TAYLOR)
    selection, graph = selection_of(settings, first=LOSSES, second=LOSSES)
    usable = sorted(LOSSES)[:-2]  # at the next one, only the floor is left
    wanted = usable[0 if end == "first" else -1]
    kept = graph.count_params(selection.keep(wanted))
    share = kept / graph.count_params(graph.keep_all())
    assert selection.threshold_for(CostTarget(Cost.PARAMS, share)) == wanted


def test_a_layer_of_one_channel_has_a_cost():
    settings = PruneSettings(granularity=1, min_filters=1, importance=Importance.TAYLOR)
    selection, _ = selection_of(settings, Cost.MACS, first=LOSSES, one=[2.0], second=LOSSES)
    low, collapse = selection.usable_range()
    assert 0 < low < collapse
