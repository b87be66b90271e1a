"""The published numbers, and the page that quotes them."""

import json
import re
from pathlib import Path

import pytest

from bodypose_loadtest.errors import LoadTestError
from bodypose_loadtest.result import NOT_MEASURED, result_table, with_table

ROOT = Path(__file__).parents[3]
RESULT = ROOT / "docs/results/loadtest.json"
PAGE = ROOT / "docs/load-testing.md"


@pytest.fixture
def result(summary, report):
    machine = {"server_mib_begin": 900.0, "server_mib_end": 905.0}
    overloaded = summary("spike", rate=40, invalid=("achieved 50% of the rate",))
    return {
        "settings": {"repeats": 3, "duration_s": 30.0, "soak_s": 1800.0},
        "environment": {"cpus": 2, "cpu": "a CPU"},
        "model": report["model"],
        "knee": report["knee"],
        "steps": report["steps"],
        "at_50_percent": summary(rate=10, invalid=()),
        "at_80_percent": summary(rate=16, invalid=()),
        "overload": {"during": overloaded, "after": summary(invalid=()), "recovery_s": 2.5},
        "soak": {**summary(rate=10, invalid=()), "machine": machine},
        "headroom": {"grpc": {"ratio": 40.0}, "http": {"ratio": 100.0}},
    }


def test_the_table_says_what_the_file_says(result):
    table = result_table(result)

    assert "| users 2 (knee) | 20.0 | 19.8 |" in table
    assert "server memory 900 MiB in the first quarter and 905 MiB in the last" in table
    assert "is felt for 2.5 s after it" in table
    assert "| 200 % of the knee, open loop | 40.0 | 39.6 | invalid | invalid |" in table


def test_a_table_is_put_between_the_marks(result):
    page = "before\n<!-- result: x -->\nold\n<!-- end of result -->\nafter\n"

    text = with_table(page, result)

    assert text.startswith("before\n<!-- result: x -->\n| load |")
    assert text.endswith("<!-- end of result -->\nafter\n")
    assert "old\n" not in text
    assert with_table(text, None) == page.replace("old", NOT_MEASURED)
    with pytest.raises(LoadTestError, match="marks"):
        with_table("no marks", result)


def test_the_page_quotes_the_result():
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else None
    page = PAGE.read_text()

    assert with_table(page, result) == page, "run `pose-loadtest result --page` again"


@pytest.mark.skipif(not RESULT.is_file(), reason="no docs/results/loadtest.json: see NOT_MEASURED")
def test_the_generators_of_the_result_had_room():
    result = json.loads(RESULT.read_text())

    assert min(rates["ratio"] for rates in result["headroom"].values()) >= 3
    assert not re.search(r"/(home|root|work|tmp)/", RESULT.read_text())
