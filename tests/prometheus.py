"""A real Prometheus that asks servers of a test once a second."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes import free_port, wait_for

_CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yaml]
scrape_configs:
  - job_name: bodypose
    static_configs: [{{targets: {targets} }}]
"""


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    address: str

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = self.get("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def value(self, query: str) -> float | None:
        """The only value of a query; None: it has none."""
        found = self.get(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return float(found[0]["value"][1]) if found else None

    def has_scraped_twice(self) -> bool:
        try:
            result = self.get("query?query=up[1m]")["result"]
            return bool(result) and all(len(each["values"]) > 1 for each in result)
        except (urllib.error.URLError, ConnectionError):
            return False


@contextmanager
def prometheus(
    folder: Path, targets: Sequence[str], rules: str = "groups: []"
) -> Iterator[Prometheus]:
    """Prometheus for servers' metrics, once it has asked each of them twice.

    Args:
        folder: a new one for its files.
        targets: host:port of each server's metrics.
        rules: of recording and alerting, in YAML.
    """
    if (program := shutil.which("prometheus")) is None:
        pytest.skip("needs Prometheus: run `apt-get install prometheus`")
    folder.mkdir()
    (folder / "rules.yaml").write_text(rules)
    (folder / "prometheus.yml").write_text(_CONFIG.format(targets=json.dumps(list(targets))))
    running = Prometheus(f"127.0.0.1:{free_port()}")
    options = ("--config.file=prometheus.yml", "--storage.tsdb.path=data")
    process = subprocess.Popen(
        [program, *options, f"--web.listen-address={running.address}"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(running.has_scraped_twice, seconds=40)
        yield running
    finally:
        process.kill()
        process.wait()
