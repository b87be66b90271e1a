"""The commands that sample calibration images, equalise, gate and compare models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import (
    CalibrationImagesOption,
    CheckImagesOption,
    JsonOption,
    SkeletonOption,
    new_file,
    new_folder,
    skeleton_of,
)
from bodypose_tools.runtimes.settings import GraphRuntime

from .settings import MAX_AP_DROP, MAX_SPLIT_IMAGES


def sample_calibration_images(
    annotations: Annotated[
        Path,
        typer.Option(
            "-a",
            "--annotation-file",
            help="COCO keypoints file.",
            dir_okay=False,
        ),
    ],
    images: Annotated[
        Path,
        typer.Option(
            "-i",
            "--image-root-dir",
            help="Folder of the images.",
            file_okay=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output-image-root-dir",
            help="New folder for the sample.",
            callback=new_folder,
        ),
    ],
    num_images: Annotated[
        int,
        typer.Option(
            "-n", "--num-images", min=1, metavar="N", help="Number of images in the sample."
        ),
    ] = 500,
    min_people: Annotated[
        int,
        typer.Option(
            "-pth",
            "--min-persons-per-image",
            min=0,
            metavar="N",
            help="People that an image must show.",
        ),
    ] = 1,
    min_joints: Annotated[
        int,
        typer.Option(
            "-kth",
            "--min-kpts-per-person",
            min=1,
            metavar="N",
            help="Labelled joints with which a person counts.",
        ),
    ] = 5,
    randomize: Annotated[
        bool,
        typer.Option(
            "-r",
            "--randomize",
            help="Draw at random; without it each class gives its first images.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of --randomize.")] = 42,
    skeleton: SkeletonOption = None,
    check_images: CheckImagesOption = False,
) -> None:
    """Copy a sample of training images that has the whole set's shares of crowds and person sizes.

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
        check_images=check_images,
    )
    typer.echo(f"{output}  {num_images} images, named with their sha256 in {manifest}")


def equalise(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="Float ONNX file of `tools export --sdk_compatible_model`.",
            dir_okay=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="ONNX file to write.", callback=new_file),
    ],
    cal_image_dir: CalibrationImagesOption,
    num_images: Annotated[
        int,
        typer.Option(
            "--num-images", "-n", min=1, metavar="N", help="Images that measure the channels."
        ),
    ] = 64,
) -> None:
    """Prepare a float graph for another project's INT8 quantiser: channels get similar ranges.

    The record beside the file lists under `leave_in_float` the nodes that a quantiser should leave.

    Example: `tools equalise model.onnx -o equalised.onnx --cal-image-dir calibration`
    """
    from bodypose_tools.files.artifacts import record_path

    from . import foreign as stage

    made = stage.equalise_file(model, output, cal_image_dir, num_images)
    left = len(made.settings["leave_in_float"])
    typer.echo(
        f"{output}  {made.settings['joints_that_stay']:.4f} of the joints stay, {left} nodes to"
        f" leave in float are named in {record_path(output).name}"
    )


def gate(
    float_model: Annotated[
        Path,
        typer.Argument(
            metavar="FLOAT", help="The float model: a .keras or .onnx file.", dir_okay=False
        ),
    ],
    candidate: Annotated[
        Path,
        typer.Argument(
            metavar="CANDIDATE", help="The model to judge: an .onnx file or a plan.", dir_okay=False
        ),
    ],
    annotations: Annotated[
        list[Path],
        typer.Option(
            "--annotations",
            "-a",
            help="COCO keypoint annotations; repeated, with --images, the splits are pooled.",
            dir_okay=False,
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Option(
            "--images",
            "-i",
            help="Folder with the images of the annotations, one for each -a.",
            exists=True,
            file_okay=False,
        ),
    ],
    max_images: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Images of each split, a sample that is always the same."
        ),
    ] = MAX_SPLIT_IMAGES,
    max_ap_drop: Annotated[
        float, typer.Option("--max-ap-drop", min=0.0, help="Largest loss of AP.")
    ] = MAX_AP_DROP,
    runtime: Annotated[
        GraphRuntime,
        typer.Option("--runtime", help="Runs the ONNX files; only CANDIDATE computes in bfloat16."),
    ] = GraphRuntime.ONNX_RUNTIME,
    check_images: CheckImagesOption = False,
    json_out: JsonOption = None,
) -> None:
    """Refuse a model that loses more AP against its float version than --max-ap-drop allows.

    Example: `tools gate model.onnx int8.onnx -a val.json -i val --runtime openvino`

    Example: `tools gate model.onnx int8.onnx -a val.json -i val -a train.json -i train`
    """
    from bodypose_client.image_check import check_split
    from bodypose_tools.evaluation.offline import splits_of
    from bodypose_tools.results.record import Measurement

    from . import gate as stage

    splits = splits_of(annotations, images, max_images)
    for split in splits:
        check_split(split.annotations, split.images, decode=check_images)
    measurement = Measurement()
    record = stage.compare_ap(float_model, candidate, splits, max_ap_drop, runtime)
    if json_out:
        measurement.write(
            json_out, record, models=[float_model, candidate], data=[*annotations, *images]
        )
    scores = [record[side]["metrics"]["AP"] for side in ("float", "candidate")]
    said = f"AP {scores[0]:.4f} -> {scores[1]:.4f}, drop {record['verdict']['value']:.4f}"
    if not record["verdict"]["passed"]:
        raise stage.AccuracyGateError(
            f"{candidate}: expected an AP drop of at most {max_ap_drop:g}, got {said}; run `tools"
            " export --data-type int8 --auto-mixed` with this split as its gate"
        )
    typer.echo(f"{candidate}  {said}, at most {max_ap_drop:g}")


def compare_speed(
    float_model: Annotated[
        Path,
        typer.Argument(
            metavar="FLOAT", help="Float ONNX file from `tools export`.", dir_okay=False
        ),
    ],
    int8_model: Annotated[
        Path,
        typer.Argument(metavar="INT8", help="INT8 ONNX file of the same network.", dir_okay=False),
    ],
    pruned: Annotated[
        bool,
        typer.Option(
            "--pruned",
            help="Compare with a pruned network: the second file is FLOAT after pruning.",
        ),
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=1, help="Number of rounds; each times every variant once.")
    ] = 40,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images in a call.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of every runtime.", show_default="all cores")
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Measure the network alone on this CPU: ONNX Runtime and OpenVINO, float32 to INT8.

    Example: `tools compare-speed model.onnx int8.onnx --json speed.json`

    Example: `tools compare-speed model.onnx pruned.onnx --pruned`
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
        Path,
        typer.Argument(
            metavar="A", help="Reference model: .keras, .onnx or .plan.", dir_okay=False
        ),
    ],
    other: Annotated[
        Path,
        typer.Argument(
            metavar="B",
            help="Other model: .keras, .onnx or .plan; or its outputs from `polygraphy run`.",
            dir_okay=False,
        ),
    ],
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            "-i",
            help="Folder of images, of which the first 8 are used.",
            show_default="a photo that scikit-image ships",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    load_inputs: Annotated[
        Path | None,
        typer.Option(
            "--load-inputs",
            help="File of pixels from Polygraphy or --save-inputs, instead of --images.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    save_inputs: Annotated[
        Path | None,
        typer.Option(
            "--save-inputs",
            help="File to write the pixels to, for `polygraphy run`.",
            callback=new_file,
        ),
    ] = None,
    save_outputs: Annotated[
        Path | None,
        typer.Option(
            "--save-outputs",
            help="File to write both models' outputs to, for Polygraphy.",
            callback=new_file,
        ),
    ] = None,
    json_out: JsonOption = None,
) -> None:
    """Compare two models' outputs and joints on the same images.

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
