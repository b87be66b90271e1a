"""The commands that score models offline: `evaluate`, `tune-grouping`, `inference`, `oracle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bodypose_tools.options import (
    AnnotationsOption,
    CheckImagesOption,
    ImagesOption,
    JsonOption,
    LimitOption,
    SkeletonOption,
    network_hw_of,
    new_file,
    new_folder,
    skeleton_of,
)

if TYPE_CHECKING:
    from bodypose_client.scoring.coco_eval import CocoMetrics

ModelArgument = Annotated[
    Path, typer.Argument(help="A .keras, .onnx or .plan file.", dir_okay=False)
]


def evaluate(
    model: ModelArgument,
    annotations: AnnotationsOption,
    images: ImagesOption,
    float_model: Annotated[
        Path | None,
        typer.Option(
            "--float-model",
            help="Float version of MODEL; the loss of AP against it is printed.",
            dir_okay=False,
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Score as served: each image once, padded to the input size. The default.",
        ),
    ] = False,
    keep_aspect: Annotated[
        bool,
        typer.Option(
            "--keep-aspect",
            help="Scale the shorter side to the input's, and do not pad the longer one.",
        ),
    ] = False,
    multi_scale: Annotated[
        bool,
        typer.Option(
            "--multi-scale",
            help="Average the fields over scales 0.5, 1, 1.5 and 2.",
        ),
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average the fields of the image and its mirror image.")
    ] = False,
    grouping: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="Grouping thresholds, as `tools tune-grouping -o` writes them.",
            dir_okay=False,
        ),
    ] = None,
    limit: LimitOption = None,
    check_images: CheckImagesOption = False,
    json_out: JsonOption = None,
) -> None:
    """Score a model with COCO's ten keypoint numbers, without a server.

    Example: `tools evaluate MODEL.onnx -a person_keypoints_val.json -i val --json scores.json`

    Example: `tools evaluate MODEL.plan -a val.json -i val --float-model MODEL.onnx`

    By default images are processed as a server does, and `pose-client evaluate` gives the same
    numbers. Other modes need a .keras file, whose input has no fixed size:
    `tools evaluate best.keras -a person_keypoints_val.json -i val --multi-scale --flip`
    """
    if strict and (keep_aspect or multi_scale or flip):
        raise typer.BadParameter("--strict excludes --keep-aspect, --multi-scale and --flip")
    from bodypose_client.image_check import check_split
    from bodypose_client.scoring.record import evaluation_record
    from bodypose_tools.results.record import Measurement

    from .modes import MULTI_SCALES, EvaluationMode, evaluate_in_mode

    measurement = Measurement()
    mode = EvaluationMode(MULTI_SCALES if multi_scale else (1.0,), keep_aspect, flip)
    check_split(annotations, images, limit, decode=check_images)
    metrics, described = evaluate_in_mode(model, annotations, images, mode, grouping, limit)
    _say_metrics(metrics, annotations)
    if float_model is not None:
        float_metrics, _ = evaluate_in_mode(float_model, annotations, images, mode, grouping, limit)
        expected = float_metrics.numbers["AP"]
        lost = expected - metrics.numbers["AP"]
        typer.echo(f"{float_model.name}: AP {expected:.4f}; {model.name} loses {lost:.4f}")
    if json_out:
        record = evaluation_record(metrics, annotations.name, {"name": model.name, **described})
        measurement.write(json_out, record, models=[model], data=[annotations, images])


def tune_grouping(
    model: Annotated[Path, typer.Argument(help="A .keras or .onnx file.", dir_okay=False)],
    annotations: Annotated[
        Path,
        typer.Option(
            "--annotations",
            "-a",
            help="COCO keypoint annotations of the training split.",
            dir_okay=False,
        ),
    ],
    images: ImagesOption,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, help="Number of images, chosen at random.")
    ] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the choice of images.")] = 42,
    check_images: CheckImagesOption = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="JSON",
            help="Also write the thresholds, and the AP of each that was tried.",
            callback=new_file,
        ),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Store the thresholds in the record beside the .keras file."),
    ] = False,
) -> None:
    """Choose the grouping thresholds of a network on training images.

    Example: `tools tune-grouping best.keras -a person_keypoints_train.json -i train -o tuned.json`

    With `--keep` later commands use them: `tools export` writes them into the ONNX file, and
    `tools build-repo` into the server's repository.
    """
    from bodypose_client.image_check import check_split
    from bodypose_tools.files.json_records import write_record
    from bodypose_tools.runtimes.predictors import open_predictor

    from .tune_grouping import check_can_keep
    from .tune_grouping import tune_grouping as tune

    if keep:
        check_can_keep(model)
    check_split(annotations, images, decode=check_images)
    predict, spec, _ = open_predictor(model)
    tuning = tune(predict, spec, annotations, images, limit, seed, typer.echo)
    typer.echo(f"AP {tuning.ap_before:.4f} -> {tuning.ap:.4f} on {tuning.images} images")
    for name, value in tuning.person_scores.items():
        typer.echo(f"person score {name}: AP {value:.4f}")
    if output:
        write_record(output, tuning.to_json())
    if keep:
        from bodypose_tools.networks.keras_files import keep_grouping

        keep_grouping(model, tuning.grouping)


def inference(
    model: ModelArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE|DIR|LIST.json",
            help="Files, folders, patterns such as '*.jpg', or JSON lists of paths beside them.",
        ),
    ],
    results: Annotated[
        Path,
        typer.Option(
            "-o", "--results-dir", help="Folder to write the results to.", callback=new_folder
        ),
    ],
    visualize: Annotated[
        bool,
        typer.Option(
            "--visualize",
            help="Also write pictures with the people drawn, to images_annotated/.",
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
    annotations: AnnotationsOption,
    images: ImagesOption,
    sigma: Annotated[
        float,
        typer.Option(
            min=0.1, help="Standard deviation of a heatmap's Gaussian, in network pixels."
        ),
    ] = 5.0,
    max_peaks: Annotated[
        int,
        typer.Option("--max-peaks", min=1, help="Largest number of peaks per joint."),
    ] = 20,
    min_joints: Annotated[
        int | None, typer.Option(min=1, help="Fewest joints of a person.", show_default="as served")
    ] = None,
    size: Annotated[
        str,
        typer.Option("-d", "--input-dims", metavar="H,W,3", help="Input size of the network."),
    ] = "288,384,3",
    skeleton: SkeletonOption = None,
    check_images: CheckImagesOption = False,
    json_out: JsonOption = None,
) -> None:
    """Score the decoder on fields drawn from the labels: an upper bound of any network's AP.

    Example: `tools oracle -a person_keypoints_val.json -i val --json oracle.json`
    """
    from dataclasses import asdict, replace

    from bodypose_client.image_check import check_split
    from bodypose_client.scoring.record import evaluation_record
    from bodypose_tools.data.labels import LabelSettings
    from bodypose_tools.networks.decoding import DecodeSettings
    from bodypose_tools.results.record import Measurement
    from pose_runtime.spec import PipelineSpec

    from .oracle import oracle_metrics

    measurement = Measurement()
    spec = PipelineSpec(
        skeleton_of(skeleton),
        network_hw=network_hw_of(size),
        max_peaks=max_peaks,
    )
    if min_joints is not None:
        spec = replace(spec, grouping=replace(spec.grouping, min_joints=min_joints))
    check_split(annotations, images, decode=check_images)
    labels, decode = LabelSettings(sigma), DecodeSettings(max_peaks)
    metrics = oracle_metrics(annotations, images, spec, labels, decode)
    _say_metrics(metrics, annotations)
    if json_out:
        settings = {**asdict(labels), **asdict(decode), **asdict(spec.grouping)}
        described = {"name": "oracle", "settings": settings}
        record = evaluation_record(metrics, annotations.name, described)
        measurement.write(json_out, record, data=[annotations, images])


def _say_metrics(metrics: CocoMetrics, annotations: Path) -> None:
    for name, value, meaning in metrics.table():
        typer.echo(f"{name:5} {value:>6}  {meaning}")
    typer.echo(f"{metrics.images} images with {metrics.people} people, {annotations.name}")
