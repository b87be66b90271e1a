"""Our own figures on a server's page for Prometheus."""

from __future__ import annotations

import re
import time
import urllib.request

from bodypose_tools.server.embedded import EmbeddedServer


def figures(server: EmbeddedServer) -> dict[str, float]:
    """What the page says once it has come to rest: figures go out behind the answers."""
    before = None
    while (now := _now(server)) != before:
        before = now
        time.sleep(0.1)
    return now


def _now(server: EmbeddedServer) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{server.metrics_url}/metrics", timeout=30) as page:
        text = page.read().decode()
    return {key: float(value) for key, value in re.findall(r"^(pose_\S+) (\S+)$", text, re.M)}
