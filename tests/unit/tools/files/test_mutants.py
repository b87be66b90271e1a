"""Files from others, mutated: each reader answers, or refuses in one line."""

import io
import json
import os
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bodypose_client.evaluation import load_results
from bodypose_tools.data.skeletons import load_skeleton
from bodypose_tools.evaluation.tune_grouping import read_grouping
from bodypose_tools.files.artifacts import Artifact, record_path
from bodypose_tools.pretrained.weight_file import read_arrays
from bodypose_tools.quantisation.polygraphy_files import load_inputs, load_outputs
from bodypose_tools.repository.build import repository_record
from bodypose_tools.repository.tuning import Tuning
from bodypose_tools.training.spec import load_train_spec
from pose_runtime.errors import PoseError
from pose_runtime.skeleton import BODYPOSE_18
from pose_runtime.spec import PipelineSpec
from tests.json_mutants import mutants

SPECS = Path(__file__).parents[4] / "specs"
MUTANTS = int(os.environ.get("FILE_MUTANTS", "40"))
RECORD = {"sha256": "a", "stage": "build-repo", "parents": [{"sha256": "b"}], "settings": {}}
REPOSITORY = {**RECORD, "files": {"a": "b"}, "served": [1, 2]}
ARRAY = {"array": "k05VTVBZAQA=", "polygraphy_class": "ndarray"}
RUN = ["r", [{"outputs": {"a": {"values": ARRAY}}, "runtime": 0.1}]]
PERSON = {"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.5] * 17, "score": 0.5}

# Name -> a right document, and its reader.
READERS = {
    "skeleton": (BODYPOSE_18.to_json(), load_skeleton),
    "pipeline": (json.loads(PipelineSpec().to_json()), PipelineSpec.load),
    "tuning": (asdict(Tuning()), Tuning.load),
    "record": (RECORD, lambda path: Artifact.recorded(path.with_suffix(""))),
    "repository": (REPOSITORY, lambda path: repository_record(path.with_suffix(""))),
    "grouping": ({"grouping": asdict(PipelineSpec().grouping)}, read_grouping),
    "results": ([PERSON, PERSON], load_results),
    "inputs": ([{"a": ARRAY}], load_inputs),
    "outputs": ({"lst": [RUN]}, load_outputs),
    "spec": (yaml.safe_load((SPECS / "bodypose-s.yaml").read_text()), load_train_spec),
}
DEEP = ["[" * 100_000, '{"a":' * 100_000, '{"settings": ' + "[" * 50_000 + "]" * 50_000 + "}"]


def one_line_or_right(read, path: Path) -> None:
    """Reads the file; anything but one line of ours is a failure of the test."""
    lines = []
    try:
        read(path)
    except PoseError as error:
        lines = [str(error)]
    assert all(len(line.splitlines()) == 1 and len(line) < 3000 for line in lines)


@pytest.mark.parametrize("name", READERS)
@settings(
    max_examples=MUTANTS,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_a_mutant_is_read_or_refused_in_one_line(tmp_path, name, data):
    document, read = READERS[name]
    path = tmp_path / "file.json"
    path.write_text(json.dumps(data.draw(mutants(document))))  # of YAML, JSON is a part
    one_line_or_right(read, path)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("text", [*DEEP, "", "\x00", "[1e999]", "NaN", "1" * 5000])
def test_what_no_parser_likes_is_one_line(tmp_path, name, text):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(PoseError):
        READERS[name][1](tmp_path / "file.json")


def test_a_planted_traceback_is_found(tmp_path):
    with pytest.raises(ZeroDivisionError):
        one_line_or_right(lambda path: 1 / 0, tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("pipeline", {"max_people": 10**9}, "at least 1 and at most 1000"),
        ("pipeline", {"grouping": {"min_peak_score": float("nan")}}, "a number from 0 to 1, got"),
        ("skeleton", {"sigmas": [float("nan")] * 18}, "NaN"),
        ("skeleton", {"sigmas": [0.0] * 18}, "sigmas: expected finite numbers above 0"),
        ("repository", {"served": [-1]}, r"versions from 1 on in `served`, got \[-1\]"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, name, change, words):
    document, read = READERS[name]
    (tmp_path / "file.json").write_text(json.dumps({**document, **change}))
    with pytest.raises(PoseError, match=words):
        read(tmp_path / "file.json")


def test_no_settings_are_no_tuning_and_the_advice_spares_the_file(tmp_path):
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(PoseError, match="got no settings") as caught:
        Tuning.load(tmp_path / "mine.json")
    assert "-o NEW.json" in str(caught.value)


def test_aliases_of_a_short_yaml_are_counted_before_they_are_written_out(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    (tmp_path / "spec.yaml").write_text("\n".join(lines))
    with pytest.raises(PoseError, match="more than 10000 values, with aliases written out"):
        load_train_spec(tmp_path / "spec.yaml")


def test_an_array_is_not_reserved_for_its_header_alone(tmp_path):
    npy = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**38,)}
    np.lib.format.write_array_header_1_0(npy, header)
    with zipfile.ZipFile(tmp_path / "weights.npz", "w") as archive:
        archive.writestr("a/b.npy", npy.getvalue())
    with pytest.raises(PoseError, match="0 bytes where its header promises 1099511627776"):
        read_arrays(tmp_path / "weights.npz")


def test_records_lie_beside_their_files(tmp_path):
    assert record_path(tmp_path / "file") == tmp_path / "file.json"
