"""`tools bulk`: rows of every image, shards, reruns, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("pyarrow", reason="needs pyarrow: run pip install -e '.[bulk]'")

from bodypose_client.pictures.examples import EXAMPLES
from bodypose_tools.bulk.jobs import network_job
from bodypose_tools.bulk.part_files import read_poses
from bodypose_tools.bulk.settings import BulkError, Shard
from bodypose_tools.cli import app
from bodypose_tools.files.shipped import SHIPPED_MODEL
from bodypose_tools.runtimes.settings import GraphRuntime
from tests.bulk_inputs import NO_IMAGE, as_folder, as_tar, grey_of_row, greys
from tests.serving import SPEC


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_onnx) -> Path:
    return tiny_onnx(tmp_path_factory.mktemp("net") / "tiny.onnx", SPEC)


def bulk(*arguments: object, shard: str = "0/1"):
    words = ["bulk", *map(str, arguments), "--shard", shard]
    return CliRunner().invoke(app, words)


def test_each_image_is_one_row_and_a_bad_one_a_row_with_an_error(tiny, tmp_path):
    images = {**greys(20), "00007.png": NO_IMAGE}
    source = as_folder(tmp_path / "in", images)

    result = bulk(source, "-o", tmp_path / "out", "-m", tiny, "--part-size", 6)

    assert result.exit_code == 0, result.output
    assert "20 images, 19 people, 1 errors" in result.stdout
    expected = {f"{source}/{name}": 5 + number for number, name in enumerate(images)}
    assert grey_of_row(tmp_path / "out") == {**expected, f"{source}/00007.png": None}
    record = json.loads((tmp_path / "out/_bulk.json").read_text())
    assert (record["images"], record["errors"], record["parts"]) == (20, 1, 4)


def test_shards_share_the_work_and_the_last_one_records_it(tiny, tmp_path):
    source, out = as_tar(tmp_path / "a.tar", greys(20)), tmp_path / "out"
    parts = []
    for index in range(3):
        assert not (out / "_bulk.json").exists()
        result = bulk(source, "-o", out, "-m", tiny, "--part-size", 3, shard=f"{index}/3")
        assert result.exit_code == 0, result.output
        parts.append({path.name for path in out.glob("part-*")} - set().union(*parts))
    assert [len(each) for each in parts] == [3, 2, 2]
    assert len(grey_of_row(out)) == 20
    assert json.loads((out / "_bulk.json").read_text())["images"] == 20


def test_a_rerun_makes_missing_parts_and_touches_no_other(tiny, tmp_path):
    source, out = as_folder(tmp_path / "in", greys(9)), tmp_path / "out"
    run = (source, "-o", out, "-m", tiny, "--part-size", 3)
    bulk(*run)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.glob("part-*")}
    gone = out / "part-000001.parquet"
    gone.unlink()

    result = bulk(*run)

    assert "3 images in 1 of 3 parts" in result.stderr
    assert gone.read_bytes() == before.pop(gone)[1]
    assert all(path.stat().st_mtime_ns == changed for path, (changed, _) in before.items())


def test_people_are_those_of_tools_inference(tmp_path):
    folder = EXAMPLES["friends"].parent
    result = bulk(folder, "-o", tmp_path / "out", "--runtime", "onnxruntime")
    assert result.exit_code == 0, result.output
    CliRunner().invoke(app, ["inference", str(SHIPPED_MODEL), str(folder), "-o", str(tmp_path)])

    records = json.loads((tmp_path / "detections.json").read_text())
    rows = list(read_poses(tmp_path / "out/part-000000.parquet"))
    assert [path for path, _ in rows] == [f"{folder}/{each['image']['id']}" for each in records]
    assert min(len(poses) for _, poses in rows) > 0
    for record, (_, poses) in zip(records, rows, strict=True):
        found = [person["keypoints"] for person in record["poses"]]
        assert np.float32(found).tolist() == poses.keypoints.tolist()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--min-score", "0.5"], "another min_score"),
        (["--runtime", "onnxruntime"], "another runtime"),
        (["--part-size", "4"], "another images_sha256"),
    ],
)
def test_a_rerun_with_another_setting_is_refused(tiny, tmp_path, change, expected):
    source = as_folder(tmp_path / "in", greys(6))
    run = [source, "-o", tmp_path / "out", "-m", tiny]
    bulk(*run, "--part-size", 3)
    result = bulk(*run, "--part-size", 3, *change)
    assert expected in str(result.exception)
    assert "choose another output folder" in str(result.exception)


def test_a_rerun_on_fewer_images_is_refused(tiny, tmp_path):
    source = as_folder(tmp_path / "in", greys(6))
    bulk(source, "-o", tmp_path / "out", "-m", tiny, "--part-size", 2)
    for name in list(greys(6))[3:]:
        (source / name).unlink()
    result = bulk(source, "-o", tmp_path / "out", "-m", tiny, "--part-size", 2)
    assert isinstance(result.exception, BulkError)


def test_what_no_worker_can_open_ends_the_run_in_one_line(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    source = as_folder(tmp_path / "in", greys(2))
    result = bulk(source, "-o", tmp_path / "out", "-m", tmp_path / "broken.onnx")
    assert "broken.onnx" in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("text", ["4/4", "-1/4", "1", "a/b", "0/0", "1/2/3"])
def test_a_shard_that_is_none_is_refused(text):
    with pytest.raises(BulkError, match="expected i/n with i from 0"):
        Shard.parse(text)


def test_a_shard_counts_from_0():
    assert Shard.parse("3/4") == Shard(3, 4)


def test_a_model_and_a_server_are_refused(tmp_path):
    assert bulk(tmp_path, "-o", tmp_path, "-m", "a.onnx", "--server", "grpc://x").exit_code == 2


def test_a_gpu_gets_batches_that_threads_decode_ahead(tiny, tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch: extra `embedded-cuda`")
    network = network_job(tiny, GraphRuntime.CUDA, tmp_path, 0.25).by
    assert (network.on_gpu, network.batch, network.decoders) == (True, 8, 4)


def test_a_core_gets_one_image_at_a_time_decoded_by_itself(tiny, tmp_path):
    network = network_job(tiny, GraphRuntime.OPENVINO, tmp_path, 0.25).by
    assert (network.on_gpu, network.batch, network.threads, network.decoders) == (False, 1, 1, 0)
