"""One run of `tools soak`: its images, its server, its report."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress

from bodypose_client.pose_client import PoseClient
from bodypose_tools.repository.build import RepositoryError, changes_since_build
from bodypose_tools.results.record import Measurement
from bodypose_tools.server.embedded import embedded_server

from .load import ask_once, measured_knee, soak
from .settings import SoakPlan
from .watch import keep_heaps_small


def run_soak(
    repository: Path,
    output: Path,
    plan_at: Callable[[float], SoakPlan],
    knee: float | None,
    share: float,
) -> dict[str, Any]:
    """Serve a repository, load it by the plan, and write the report.

    Args:
        repository: folder of `tools build-repo`.
        output: JSON file to write.
        plan_at: makes the plan for a rate.
        knee: requests a second that the server can answer; None: measured.
        share: rate of the load, as a share of the knee.

    Returns:
        The report, with `passed` and `problems`.

    Raises:
        RepositoryError: the repository changed after it was built.
        ServerError: the server does not start.
    """
    if changes := changes_since_build(repository):
        raise RepositoryError(changes[0])
    keep_heaps_small()
    measurement = Measurement(timed=True)
    said: list[str] = []
    with embedded_server(repository, report=said.append) as server:
        with PoseClient(f"grpc://{server.grpc_url}", timeout_s=60) as client:
            questions = ask_once(client, good_images(), hostile_images())
            measured = knee is None
            knee = knee or measured_knee(client, questions)
            model = client.model
        plan = plan_at(knee * share)
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task("soak", total=plan.seconds)
            report = soak(server, questions, plan, lambda s: progress.update(bar, completed=s))
    searched = (re.search(r"ready again after ([\d.]+)", line) for line in said)
    recovered = [found for found in searched if found]
    report |= {
        "knee_per_s": round(knee, 2),
        "knee": "measured with 8 callers for 10 s" if measured else "given",
        "recovery_s": [float(found[1]) for found in recovered],
        "model": {"version": model.version, "sha256": model.sha256},
    }
    if len(recovered) != len(report["kills_at_s"]):
        report["problems"].append(
            f"expected {len(report['kills_at_s'])} recoveries, got {len(recovered)}"
        )
        report["passed"] = False
    measurement.write(
        output,
        report,
        models=[{"name": model.name, "sha256": model.sha256}],
        verdicts=[
            {
                "name": "soak",
                "rule": "no answer lost, wrong or doubled; no resource grows; every kill recovers",
                "figure": len(report["problems"]),
                "outcome": "met" if report["passed"] else "missed",
            }
        ],
    )
    return report


def good_images() -> dict[str, bytes]:
    """A photo with a person (public domain, NASA) in several cuts and sizes, as JPEG and PNG."""
    from skimage import data

    photo = cv2.cvtColor(np.asarray(data.astronaut()), cv2.COLOR_RGB2BGR)
    cuts = {
        "whole": photo,
        "mirrored": photo[:, ::-1],
        "upper": photo[:320, 80:400],
        "left": photo[40:440, :300],
        "large": cv2.resize(photo, (1280, 1280)),
        "small": cv2.resize(photo, (160, 160)),
        "empty": np.full((240, 320, 3), 127, np.uint8),
    }
    return {
        f"{name}{suffix}": cv2.imencode(suffix, np.ascontiguousarray(pixels))[1].tobytes()
        for name, pixels in cuts.items()
        for suffix in (".jpg", ".png")
    }


def hostile_images() -> dict[str, bytes]:
    """One image of each kind that the server must refuse, by name."""
    whole = good_images()["whole.jpg"]
    png = good_images()["small.png"]
    return {
        "no bytes": b"",
        "text": b"Dear server, no picture today.",
        "noise": np.random.default_rng(0).bytes(64_000),
        "half a JPEG": whole[: len(whole) // 2],
        "half a PNG": png[: len(png) // 2],
        "a JPEG header": whole[:200],
        "a PNG bomb": png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:],
        "a huge file": whole + bytes(20 * 2**20),
    }
