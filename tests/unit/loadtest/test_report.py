import csv
import gzip
import io

import pytest

from bodypose_loadtest.charts import draw_curves
from bodypose_loadtest.perf_csv import perf_csv
from bodypose_loadtest.records import requests_csv
from bodypose_loadtest.report import Outcome, markdown, write_report
from bodypose_loadtest.server_probe import server_split


def test_the_page_has_no_server_numbers_of_an_invalid_step(report):
    page = markdown(report)

    [row] = [line for line in page.splitlines() if line.startswith("| users 4")]
    assert "invalid" in row
    assert page.count("1234.0") == 1  # what was asked for; what was answered is not said
    assert "FAILED" in page
    assert "Knee: users 2, 20.0 answers/s" in page
    assert "* users 4: generator: too slow" in page


def test_the_folder_holds_all_forms(report, records, tmp_path):
    raw = records([(0.5, 0.5, 0.75, 0, 0), (1.0, 1.0, 1.1, 1, 1)])

    write_report(tmp_path, Outcome(report, [("users 1", 0, raw)], ["a.jpg", "b.jpg"]))

    assert {path.name for path in tmp_path.iterdir()} == {
        *("report.json", "report.md", "curves.png", "requests.csv.gz", "perf.csv")
    }
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("slo", [{}, {"p99": 50.0}])
def test_curves_without_a_valid_step_are_drawn_too(report, summary, slo):
    steps = [summary("users 1", invalid=("generator: too slow",))]

    png = draw_curves({**report, "steps": steps, "knee": None, "slo": slo})

    assert png.startswith(b"\x89PNG")


def test_every_request_is_in_the_csv(records):
    raw = records([(0.5, 0.5, 0.75, 0, 0), (1.0, 1.001, 1.1, 1, 1)])

    text = gzip.decompress(requests_csv([("users 1", 2, raw)], ["a.jpg", "b.jpg"])).decode()

    assert list(csv.reader(io.StringIO(text)))[1:] == [
        ["users 1", "2", "0.500000", "0.500000", "250.000", "a.jpg", ""],
        ["users 1", "2", "1.000000", "1.001000", "100.000", "b.jpg", "ServerBusy"],
    ]


def test_perf_analyzers_columns(summary):
    step = summary("rate 10", latency_s=0.1)
    model = {"queue_ms": 5.0, "compute_input_ms": 1.0, "compute_infer_ms": 40.0}
    step["server"] = {"models": {"network": {**model, "compute_output_ms": 2.0}}}

    header, row = csv.reader(io.StringIO(perf_csv([step, summary(invalid=("no",))])))

    assert ",".join(header) == (
        "Request Rate,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,"
        "Server Compute Input,Server Compute Infer,Server Compute Output,Client Recv,"
        "p50 latency,p90 latency,p95 latency,p99 latency"
    )
    named = dict(zip(header, row, strict=True))
    assert (named["Server Queue"], named["Server Compute Infer"]) == ("5000", "40000")
    assert named["Network+Server Send/Recv"] == "53000"  # of 101 ms in the median repeat
    assert named["p99 latency"] == "101000"


def counters(images, executions, queue_ns):
    steps = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    counted = {f"{step}_{field}": images for step in steps for field in ("count", "ns")}
    return {**counted, "images": images, "executions": executions, "queue_ns": queue_ns}


def test_the_split_is_of_the_composing_models_in_between():
    before = {"bodypose": counters(10, 10, 0), "network": counters(10, 10, 10**7)}
    after = {"bodypose": counters(50, 50, 0), "network": counters(50, 20, 5 * 10**7)}

    split = server_split(before, after, "bodypose")

    assert list(split["models"]) == ["network"]
    assert split["models"]["network"]["mean_batch"] == 4
    assert split["queue_ms"] == pytest.approx(1.0)
    assert server_split({}, after, "bodypose") == {}  # nobody answered the first look
