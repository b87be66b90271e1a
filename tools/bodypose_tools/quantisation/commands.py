"""The INT8 and TensorRT side of the `tools` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import (
    AnnotationsOption,
    ImagesOption,
    JsonOption,
    SkeletonOption,
    skeleton_of,
)
from bodypose_tools.runtimes.settings import GraphRuntime

from .settings import MAX_AP_DROP


def sample_calibration_images(
    annotations: Annotated[
        Path,
        typer.Option(
            "-a", "--annotation_file", "--annotation-file", help="COCO file.", dir_okay=False
        ),
    ],
    images: Annotated[
        Path,
        typer.Option(
            "-i", "--image_root_dir", "--image-root-dir", help="Its images.", file_okay=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output_image_root_dir", "--output-image-root-dir", help="New folder."
        ),
    ],
    num_images: Annotated[
        int, typer.Option("-n", "--num_images", "--num-images", min=1, help="Exactly so many.")
    ] = 500,
    min_people: Annotated[
        int,
        typer.Option(
            "-pth", "--min_persons_per_image", "--min-persons-per-image", min=0, help="In an image."
        ),
    ] = 1,
    min_joints: Annotated[
        int,
        typer.Option(
            "-kth",
            "--min_kpts_per_person",
            "--min-kpts-per-person",
            min=1,
            help="Labelled joints that make a person count.",
        ),
    ] = 5,
    randomize: Annotated[
        bool,
        typer.Option("-r", "--randomize", help="Draw by the seed; else the first of every class."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of --randomize.")] = 42,
    skeleton: SkeletonOption = None,
) -> None:
    """Copy a sample of training images with the whole set's mix of people and person sizes.

    Example: `tools sample-calibration-images -a train.json -i train -o build/calibration -n 512 -r`
    """
    from . import sampling as stage

    settings = stage.SamplingSettings(
        num_images, min_people, min_joints, seed if randomize else None
    )
    manifest = stage.sample_calibration_images(
        annotations,
        images,
        output,
        settings,
        skeleton_of(skeleton),
    )
    typer.echo(f"{output}  {num_images} images, named with their sha256 in {manifest}")


def gate(
    float_model: Annotated[
        Path, typer.Argument(metavar="FLOAT", help="A .keras or .onnx file.", dir_okay=False)
    ],
    candidate: Annotated[
        Path,
        typer.Argument(metavar="CANDIDATE", help="Its INT8 version, or a plan.", dir_okay=False),
    ],
    annotations: AnnotationsOption,
    images: ImagesOption,
    max_ap_drop: Annotated[
        float, typer.Option("--max_ap_drop", "--max-ap-drop", min=0.0, help="Largest loss of AP.")
    ] = MAX_AP_DROP,
    runtime: Annotated[
        GraphRuntime, typer.Option("--runtime", help="Of ONNX files; the CANDIDATE alone has bf16.")
    ] = GraphRuntime.ONNX_RUNTIME,
    json_out: JsonOption = None,
) -> None:
    """Refuse a model that loses more AP than allowed against its float version.

    Example: `tools gate model.onnx int8.onnx -a val.json -i val --runtime openvino`
    """
    from bodypose_tools.results.record import Measurement

    from . import gate as stage

    measurement = Measurement()
    record = stage.compare_ap(float_model, candidate, annotations, images, max_ap_drop, runtime)
    if json_out:
        measurement.write(
            json_out, record, models=[float_model, candidate], data=[annotations, images]
        )
    scores = [record[side]["metrics"]["AP"] for side in ("float", "candidate")]
    said = f"AP {scores[0]:.4f} -> {scores[1]:.4f}, drop {record['verdict']['value']:.4f}"
    if not record["verdict"]["passed"]:
        raise stage.AccuracyGateError(
            f"{candidate}: expected an AP drop of at most {max_ap_drop:g}, got {said}; run `tools"
            " export --data_type int8 --auto-mixed` with this split as its gate"
        )
    typer.echo(f"{candidate}  {said}, at most {max_ap_drop:g}")


def compare_speed(
    float_model: Annotated[
        Path, typer.Argument(metavar="FLOAT", help="From `tools export`.", dir_okay=False)
    ],
    int8_model: Annotated[
        Path, typer.Argument(metavar="INT8", help="Its INT8 version.", dir_okay=False)
    ],
    pruned: Annotated[
        bool, typer.Option("--pruned", help="The second file is FLOAT after pruning.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Each times every variant once.")] = 40,
    batch_size: Annotated[int, typer.Option("--batch_size", "--batch-size", min=1)] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of every runtime.", show_default="all cores")
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """How fast the network alone runs on this CPU: ONNX Runtime and OpenVINO, float to INT8.

    Example: `tools compare-speed model.onnx int8.onnx --json speed.json`

    For a pruned network: `tools compare-speed model.onnx pruned.onnx --pruned`
    """
    import os
    from functools import partial

    import numpy as np

    from bodypose_tools.data.photos import packaged_images
    from bodypose_tools.files.artifacts import Artifact
    from bodypose_tools.graphs.contract import spec_in_onnx
    from bodypose_tools.results.record import Measurement
    from bodypose_tools.runtimes.network_speed import speed_record, speed_up_record

    for model in (float_model, int8_model):
        Artifact.open(model)
    photos = packaged_images(spec_in_onnx(float_model).network_hw)
    pixels = np.resize(photos, (batch_size, *photos.shape[1:]))
    threads = threads or os.cpu_count() or 1
    measurement = Measurement(timed=True)
    write = partial(
        measurement.write,
        models=[float_model, int8_model],
        repeats={"rounds": rounds, "order": "in turn"},
    )
    if pruned:
        record = speed_up_record(float_model, int8_model, pixels, rounds, threads)
        for name, numbers in record["runtimes"].items():
            ratio = numbers["times_as_fast"]
            typer.echo(
                f"{name:12} {numbers['unpruned_ms']['median']:7.1f} ms ->"
                f" {numbers['pruned_ms']['median']:7.1f} ms   {ratio['median']:5.2f} x"
                f"  ({ratio['p10']:.2f} to {ratio['p90']:.2f})"
            )
        if json_out:
            write(json_out, record)
        return
    record = speed_record(
        float_model, int8_model, pixels, rounds, threads, halfway=measurement.between
    )
    for name, numbers in record["variants"].items():
        spent, ratio = numbers["milliseconds"], numbers["times_as_fast"]
        typer.echo(
            f"{name:26} {spent['median']:7.1f} ms   {ratio['median']:5.2f} x"
            f"  ({ratio['p10']:.2f} to {ratio['p90']:.2f})"
        )
    typer.echo(f"x: times as fast as {record['baseline']}, {rounds} interleaved rounds")
    if json_out:
        write(json_out, record)


def compare(
    one: Annotated[
        Path, typer.Argument(metavar="A", help="Reference: .keras, .onnx or .plan.", dir_okay=False)
    ],
    other: Annotated[
        Path,
        typer.Argument(
            metavar="B",
            help=".keras, .onnx, .plan; or .json from `polygraphy run --save-outputs`.",
            dir_okay=False,
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            "-i",
            help="Folder; its first 8 are used.",
            show_default="a photo that scikit-image ships",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    load_inputs: Annotated[
        Path | None,
        typer.Option(
            "--load-inputs",
            "--load_inputs",
            help="Pixels that Polygraphy or --save-inputs wrote, for --images.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    save_inputs: Annotated[
        Path | None,
        typer.Option(
            "--save-inputs", "--save_inputs", help="Write the pixels for `polygraphy run`."
        ),
    ] = None,
    save_outputs: Annotated[
        Path | None,
        typer.Option(
            "--save-outputs", "--save_outputs", help="Write both models' outputs for Polygraphy."
        ),
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """How far two models' outputs and joints are apart on the same images.

    Example: `tools compare model.onnx int8.onnx --images calibration`

    Example: `tools compare model.onnx engine.json --load-inputs pixels.json`
    """
    from bodypose_tools.files.json_records import write_record

    from . import comparison as stage

    pixels = stage.pixels_for(one, images, load_inputs)
    if save_inputs:
        stage.save_pixels(save_inputs, pixels)
    comparison = stage.compare_models(one, other, pixels)
    record = comparison.record()
    for name, errors in record["outputs"].items():
        typer.echo(f"{name:12} mean error {errors['mean']:.2g}, largest {errors['max']:.2g}")
    joints = record["joints"]
    typer.echo(
        f"{joints['compared']} joints: median {joints['shift_px']['median']} px apart, 95 % within"
        f" {joints['shift_px']['p95']} px; {joints['agreement']:.4f} stay"
    )
    if save_outputs:
        comparison.save_outputs(save_outputs)
    if json_out:
        write_record(json_out, record)
