"""Many requests in, one response each: what fails, fails alone, and is counted."""

from __future__ import annotations

import gc
import importlib.util
import json
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pose_runtime.door import Door, joined, parameter
from pose_runtime.errors import (
    BadImages,
    BeyondLimit,
    ContractError,
    DamagedImage,
    NotFinite,
    ServerFull,
    SpecError,
)
from pose_runtime.metrics import StageMetrics
from pose_runtime.passage import EVERYONE, Passage, Visit
from pose_runtime.spec import TensorSpec
from tests.processes import wait_for

NUMBER = TensorSpec("number", "FP32", (1,))
DOUBLED = TensorSpec("doubled", "FP32", (1,))
PEOPLE = TensorSpec("num_people", "INT32", (1,))
STUB = Path(__file__).parents[2] / "stubs" / "triton_python_backend_utils.py"


@pytest.fixture
def pb_utils() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("fake_pb_utils", STUB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    module.MetricFamily.figures.clear()


def a_door(pb_utils: Any, passage: Passage = EVERYONE, stage: str = "grouping") -> Door:
    metrics = StageMetrics(pb_utils, stage)
    return Door(pb_utils, metrics, (NUMBER,), (DOUBLED, PEOPLE), PEOPLE, passage)


def figures_of(pb_utils: Any, door: Door) -> dict[str, Any]:
    """What was counted; the door closes."""
    door.metrics.close()
    return dict(pb_utils.MetricFamily.figures)


class Nobody(Passage):
    """As if every request came from a caller of the step itself."""

    def arrive(self, pb_utils: Any, request: Any) -> Visit:
        return Visit()


class Recording(Passage):
    """What became of the requests, by their number."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.arrived = 0

    def arrive(self, pb_utils: Any, request: Any) -> Visit:
        self.arrived += 1
        return Visit(is_own=True, names=[self.arrived - 1])

    def leave(self, visit: Visit) -> None:
        self.seen.append(f"left {visit.names[0]}")

    def fail(self, visit: Visit) -> None:
        self.seen.append(f"failed {visit.names[0]}")


def asking(pb_utils: Any, *numbers: float) -> Any:
    array = np.array(numbers, np.float32).reshape(-1, 1)
    return pb_utils.InferenceRequest([pb_utils.Tensor("number", array)])


def doubled(numbers: np.ndarray | list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of a batch, a list of (B, 1), or of one image (1,); people are the number itself."""
    numbers = np.concatenate(numbers) if isinstance(numbers, list) else numbers
    if (numbers == 13).any():
        raise ValueError("13")
    if (numbers == 14).any():
        raise NotFinite("numbers: expected finite, got 14")
    return numbers * 2, numbers.astype(np.int32)


def answer_of(response: Any) -> Any:
    if response.error:
        return response.error.code, response.error.message
    return response.output_tensors[0].as_numpy().ravel().tolist()


@pytest.mark.parametrize("method", ["answer_each", "answer_batch"])
def test_one_failure_never_fails_its_batch_mates(pb_utils, method, capsys):
    requests = [asking(pb_utils, *numbers) for numbers in ((1, 2), (13,), (3,), (14,))]
    requests.append(pb_utils.InferenceRequest([pb_utils.Tensor("number", np.zeros(7))]))

    responses = getattr(a_door(pb_utils), method)(requests, doubled)

    answers = [answer_of(response) for response in responses]
    assert answers[0] == [2, 4]
    assert answers[1] == ("INTERNAL", "ValueError: 13")
    assert answers[2] == [6]
    assert answers[3] == ("INTERNAL", "numbers: expected finite, got 14")
    assert answers[4] == ("INVALID_ARG", "number: expected FP32 (batch, 1), got float64 (7,)")
    assert "ValueError: 13" in capsys.readouterr().err


def test_outputs_of_a_wrong_shape_are_no_answer(pb_utils):
    requests = [asking(pb_utils, 1), asking(pb_utils, 2)]

    responses = a_door(pb_utils).answer_batch(
        requests, lambda parts: (parts[0], np.concatenate(parts))
    )

    assert [response.error is not None for response in responses] == [True, True]


def test_images_of_one_request_share_its_error_which_names_the_image(pb_utils):
    def refuse_nine(number: np.ndarray) -> Any:
        if number == 9:
            raise DamagedImage("a whole PNG", "half of it")
        return doubled(number)

    (response,) = a_door(pb_utils).answer_each([asking(pb_utils, 1, 9, 2)], refuse_nine)

    expected = "batch index 1 (of 0..2): image: expected a whole PNG, got half of it"
    assert answer_of(response) == ("INVALID_ARG", expected)


def test_people_images_and_time_are_counted(pb_utils):
    door = a_door(pb_utils)
    assert not any(pb_utils.MetricFamily.figures.values())

    door.answer_each([asking(pb_utils, 1, 2), asking(pb_utils, 0), asking(pb_utils, 13)], doubled)

    figures = figures_of(pb_utils, door)
    assert figures["pose_images_total"] == 3
    assert figures["pose_people_total"] == 3
    assert figures["pose_people_per_image"] == [1, 2, 0]
    assert 0 < figures["pose_stage_seconds_total{grouping}"] < 1
    assert figures["pose_rejected_images_total{internal}"] == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DamagedImage("", ""), "damaged"),
        (BeyondLimit("max_pixels", "", ""), "max_pixels"),
        (ContractError("", "", ""), "contract"),
        (NotFinite(""), "not_finite"),
        (MemoryError(), "internal"),
    ],
)
def test_what_is_refused_is_counted_by_its_reason(pb_utils, error, reason):
    def refuse(number: np.ndarray) -> Any:
        raise error

    door = a_door(pb_utils)
    door.answer_each([asking(pb_utils, 1, 2)], refuse)

    figures = figures_of(pb_utils, door)
    assert {key: value for key, value in figures.items() if "rejected" in key and value} == {
        f"pose_rejected_images_total{{{reason}}}": 1
    }


def test_only_the_ensembles_requests_are_counted(pb_utils):
    door = a_door(pb_utils, Nobody())

    door.answer_each([asking(pb_utils, 1), asking(pb_utils, 13)], doubled)
    door.answer_batch([asking(pb_utils, 1), asking(pb_utils, 14)], doubled)

    assert not any(figures_of(pb_utils, door).values())


def test_answers_do_not_wait_for_figures_which_are_sent_together(pb_utils, monkeypatch):
    sent, may_go_on = [], threading.Event()

    def slow(self, value):
        sent.append(self.key)
        assert may_go_on.wait(10)
        self.figures[self.key] += value

    monkeypatch.setattr(pb_utils._Metric, "increment", slow)
    door = a_door(pb_utils)

    answers = [door.answer_each([asking(pb_utils, 3)], doubled) for _ in range(50)]
    may_go_on.set()

    assert all(answer_of(response) == [6] for (response,) in answers)
    figures = figures_of(pb_utils, door)
    assert (figures["pose_images_total"], figures["pose_people_total"]) == (50, 150)
    assert len(figures["pose_people_per_image"]) == 50
    assert sent.count("pose_images_total") <= 2


def test_a_busy_stage_pauses_between_messages_with_figures(pb_utils, monkeypatch):
    pauses, has_paused = [], threading.Event()

    def pause(seconds):
        pauses.append(seconds)
        has_paused.set()

    monkeypatch.setattr("pose_runtime.metrics.time.sleep", pause)
    door = a_door(pb_utils)

    door.answer_each([asking(pb_utils, 3)], doubled)

    assert has_paused.wait(10)
    assert figures_of(pb_utils, door)["pose_images_total"] == 1
    assert pauses == [0.02]


def test_a_model_ends_although_a_message_hangs(pb_utils, monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(pb_utils._Metric, "increment", lambda metric, value: hangs.wait(60))
    monkeypatch.setattr("pose_runtime.metrics._LONGEST_END_S", 0.05)
    door = a_door(pb_utils)
    door.answer_each([asking(pb_utils, 3)], doubled)

    door.metrics.close()

    assert not hangs.is_set()
    hangs.set()


def test_a_request_that_finds_the_server_full_may_ask_again(pb_utils, capsys):
    class FullBeyondOne(Passage):
        def admit(self, visit: Visit, images: int) -> None:
            if images > 1:
                raise ServerFull(1, 0)

    door = a_door(pb_utils, FullBeyondOne())

    one, two = door.answer_each([asking(pb_utils, 1), asking(pb_utils, 1, 2)], doubled)

    assert answer_of(one) == [2]
    assert answer_of(two)[0] == "UNAVAILABLE"
    assert figures_of(pb_utils, door)["pose_rejected_images_total{full}"] == 1
    assert capsys.readouterr().err == ""  # a log that grows with the load helps nobody


@pytest.mark.parametrize("method", ["answer_each", "answer_batch"])
def test_what_nobody_waits_for_is_not_computed(pb_utils, method, capsys):
    computed = []

    def compute(numbers: np.ndarray) -> Any:
        computed.append(float(np.ravel(numbers)[0]))
        return doubled(numbers)

    given_up = pb_utils.InferenceRequest(asking(pb_utils, 5).inputs, cancelled=True)

    door = a_door(pb_utils)

    gone, answered = getattr(door, method)([given_up, asking(pb_utils, 1)], compute)

    assert answer_of(gone)[0] == "CANCELLED"
    assert answer_of(answered) == [2]
    assert computed == [1]
    assert figures_of(pb_utils, door)["pose_rejected_images_total{cancelled}"] == 1
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("method", ["answer_each", "answer_batch"])
def test_each_request_leaves_or_fails_once(pb_utils, method):
    door = a_door(pb_utils, passage := Recording())
    requests = [asking(pb_utils, 1, 2), asking(pb_utils, 13), asking(pb_utils, 3)]

    getattr(door, method)(requests, doubled)

    assert sorted(passage.seen) == ["failed 1", "left 0", "left 2"]


def test_a_server_without_metrics_serves_all_the_same(pb_utils, monkeypatch):
    monkeypatch.delattr(pb_utils, "MetricFamily")

    (response,) = a_door(pb_utils).answer_each([asking(pb_utils, 3)], doubled)

    assert answer_of(response) == [6]


def test_figures_are_never_given_back(pb_utils, monkeypatch):
    """Triton would remove those that others count in, too: see metrics.py."""
    families = []
    known = pb_utils.MetricFamily.__init__

    def watched(self, *arguments, **options):
        known(self, *arguments, **options)
        families.append(weakref.ref(self))

    monkeypatch.setattr(pb_utils.MetricFamily, "__init__", watched)

    a_door(pb_utils)  # and its end
    gc.collect()

    assert len(families) == 5
    assert all(family() for family in families)


def test_metrics_that_fail_later_do_not_fail_the_model(pb_utils, monkeypatch):
    def fail(self, value):
        raise RuntimeError("no metrics today")

    door = a_door(pb_utils)
    monkeypatch.setattr(pb_utils._Metric, "increment", fail)

    for _ in range(2):
        (response,) = door.answer_each([asking(pb_utils, 3)], doubled)

        assert answer_of(response) == [6]
    assert not any(figures_of(pb_utils, door).values())


@pytest.mark.parametrize("counts", [(0, 0), (1, 2)])
def test_inputs_of_different_numbers_of_images_are_refused(pb_utils, counts):
    other = TensorSpec("other", "FP32", (1,))
    door = replace(a_door(pb_utils), inputs=(NUMBER, other))
    tensors = [
        pb_utils.Tensor(spec.name, np.zeros((count, 1), np.float32))
        for spec, count in zip(door.inputs, counts, strict=True)
    ]

    (response,) = door.answer_each([pb_utils.InferenceRequest(tensors)], doubled)

    expected = f"number, other: expected one number of images, at least 1, got {list(counts)}"
    assert answer_of(response) == ("INVALID_ARG", expected)


def test_a_batch_is_cut_by_the_images_of_its_requests(pb_utils):
    seen = []

    def work(parts: list[np.ndarray]) -> Any:
        numbers = np.concatenate(parts)
        seen.append(len(numbers))
        return doubled(numbers)

    requests = [asking(pb_utils, *numbers) for numbers in ((1, 2, 3), (4,), (5, 6))]
    responses = a_door(pb_utils).answer_batch(requests, work)

    assert [answer_of(response) for response in responses] == [[2, 4, 6], [8], [10, 12]]
    assert seen == [6]  # once, with all images: nobody was tried alone


def test_images_that_do_not_decode_cost_their_batch_one_more_run(pb_utils):
    seen = []

    def work(parts: list[np.ndarray]) -> Any:
        numbers = np.concatenate(parts)
        seen.append(len(numbers))
        bad = {at: DamagedImage("a whole JPEG", "half") for at in np.flatnonzero(numbers == 13)}
        if bad:
            raise BadImages(bad)
        return doubled(numbers)

    requests = [asking(pb_utils, *numbers) for numbers in ((1,), (13,), (4,), (5, 13))]
    responses = a_door(pb_utils).answer_batch(requests, work)

    error = "image: expected a whole JPEG, got half"
    assert [answer_of(response) for response in responses] == [
        [2],
        ("INVALID_ARG", error),
        [8],
        ("INVALID_ARG", f"batch index 1 (of 0..1): {error}"),
    ]
    assert seen == [5, 2]


@pytest.mark.parametrize("stage", ["preprocess", "a_step"])
def test_only_grouping_counts_people(pb_utils, stage):
    a_door(pb_utils, stage=stage)
    assert set(pb_utils.MetricFamily.figures) >= {f"pose_stage_seconds_total{{{stage}}}"}
    assert not any(name.startswith("pose_people") for name in pb_utils.MetricFamily.figures)


def test_time_is_counted_of_own_requests_only(pb_utils):
    door = a_door(pb_utils)
    door.answer_each([], doubled)
    assert figures_of(pb_utils, door)["pose_stage_seconds_total{grouping}"] == 0
    door = a_door(pb_utils)
    door.answer_each([asking(pb_utils, 4), asking(pb_utils, 13)], doubled)
    figures = pb_utils.MetricFamily.figures
    wait_for(lambda: figures["pose_people_per_image"])
    assert (figures["pose_images_total"], figures["pose_people_total"]) == (1, 4)
    door.answer_each([asking(pb_utils, 2)], doubled)
    figures = figures_of(pb_utils, door)
    assert (figures["pose_images_total"], figures["pose_people_total"]) == (2, 6)
    assert figures["pose_rejected_images_total{internal}"] == 1


def test_arrays_are_joined_and_one_alone_is_not_copied():
    one, two = np.zeros((1, 2)), np.ones((2, 2))
    assert joined([one]) is one
    assert joined([one, two]).tolist() == [[0, 0], [1, 1], [1, 1]]


PLACE = TensorSpec("place", "INT64", (2,))


def config_of(*outputs: tuple[str, str, list[str]], more: Any = ()) -> str:
    def told(name: str, dtype: str, dims: list[str]) -> dict[str, Any]:
        return {"name": name, "data_type": f"TYPE_{dtype}", "dims": dims}

    inputs = [told("number", "FP32", ["1"]), *more]
    return json.dumps({"name": "a_step", "input": inputs, "output": [told(*o) for o in outputs]})


def test_a_config_has_the_tensors_of_the_pipeline(pb_utils):
    both = (("doubled", "FP32", ["1"]), ("num_people", "INT32", ["1"]))
    optional = {"name": "place", "data_type": "TYPE_INT64", "dims": ["2"], "optional": True}
    a_door(pb_utils).check_config(config_of(*both))
    a_door(pb_utils).check_config(config_of(*both, more=[optional]))
    with_place = replace(a_door(pb_utils), place=PLACE)
    with_place.check_config(config_of(*both, ("place", "INT64", ["2"])))
    for door, outputs in (
        (with_place, both),
        (a_door(pb_utils), (*both, ("place", "INT64", ["2"]))),
        (a_door(pb_utils), both[:1]),
        (a_door(pb_utils), (both[0], ("num_people", "INT64", ["1"]))),
        (a_door(pb_utils), (both[0], ("num_people", "INT32", ["2"]))),
    ):
        with pytest.raises(SpecError, match=r"a_step: expected the outputs of pipeline\.json"):
            door.check_config(config_of(*outputs))
    with pytest.raises(SpecError, match=r"a_step: expected the inputs of pipeline\.json"):
        a_door(pb_utils).check_config(config_of(*both, more=[optional | {"optional": False}]))


def test_text_is_bytes_in_a_config(pb_utils):
    text = TensorSpec("doubled", "BYTES", (1,))
    door = replace(a_door(pb_utils), outputs=(text,))
    door.check_config(config_of(("doubled", "STRING", ["1"])))


def test_places_go_on_behind_the_outputs(pb_utils):
    door = replace(a_door(pb_utils), place=PLACE)
    (response,) = door.answer_each([asking(pb_utils, 1, 2)], doubled)
    names = [tensor.name() for tensor in response.output_tensors]
    assert names == ["doubled", "num_people", "place"]
    assert response.output_tensors[2].as_numpy().tolist() == [[0, 0], [0, 0]]


def test_a_parameter_of_the_config_or_its_default():
    config = json.dumps({"parameters": {"a": {"string_value": "x"}}})
    assert (parameter(config, "a"), parameter(config, "a", "y")) == ("x", "x")
    assert parameter(config, "b", "y") == parameter("{}", "b", "y") == "y"
    with pytest.raises(KeyError):
        parameter(config, "b")


def test_images_are_counted_finely_up_to_four_people_and_coarsely_up_to_twenty(
    pb_utils, monkeypatch
):
    """Prometheus keeps these bounds: a dashboard of before goes on."""
    bounds = []
    known = pb_utils.MetricFamily.Metric

    def watched(self, labels, buckets=None):
        bounds.append(buckets)
        return known(self, labels=labels, buckets=buckets)

    monkeypatch.setattr(pb_utils.MetricFamily, "Metric", watched)
    a_door(pb_utils)
    assert [each for each in bounds if each] == [[0, 1, 2, 3, 4, 6, 8, 12, 16, 20]]
