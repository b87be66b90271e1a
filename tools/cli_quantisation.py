"""The INT8 and TensorRT side of the `tools` command."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .accuracy_limits import MAX_AP_DROP


def add_commands(app: typer.Typer) -> None:
    """Register these commands on the `tools` app."""
    app.command("sample-calibration-images")(sample_calibration_images)
    app.command("gate")(gate)
    app.command("build-engine")(build_engine)
    app.command("compare")(compare)
    app.command("compare-speed")(compare_speed)


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
) -> None:
    """Copy a sample of training images with the whole set's mix of people and person sizes.

    Example: `tools sample-calibration-images -a train.json -i train -o build/calibration -n 512 -r`
    """
    from . import calibration_images as stage

    settings = stage.SampleSettings(num_images, min_people, min_joints, seed if randomize else None)
    manifest = stage.sample_calibration_images(annotations, images, output, settings)
    typer.echo(f"{output}  {num_images} images, named with their sha256 in {manifest}")


def gate(
    float_model: Annotated[
        Path, typer.Argument(metavar="FLOAT", help="A .keras or .onnx file.", dir_okay=False)
    ],
    candidate: Annotated[
        Path, typer.Argument(metavar="CANDIDATE", help="Its INT8 version.", dir_okay=False)
    ],
    annotations: Annotated[
        Path, typer.Option("--annotations", "-a", help="COCO keypoints file.", dir_okay=False)
    ],
    images: Annotated[
        Path,
        typer.Option("--images", "-i", help="Folder of its images.", exists=True, file_okay=False),
    ],
    max_ap_drop: Annotated[
        float, typer.Option("--max_ap_drop", "--max-ap-drop", min=0.0, help="Largest loss of AP.")
    ] = MAX_AP_DROP,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
    ] = None,
) -> None:
    """Refuse a model that loses more AP than allowed against its float version.

    Example: `tools gate model.onnx int8.onnx -a person_keypoints_val.json -i val`
    """
    from . import accuracy_gate as stage

    record = stage.compare_ap(float_model, candidate, annotations, images, max_ap_drop)
    if json_out:
        stage.write_record(json_out, record)
    scores = [record[side]["metrics"]["AP"] for side in ("float", "candidate")]
    said = f"AP {scores[0]:.4f} -> {scores[1]:.4f}, drop {record['verdict']['value']:.4f}"
    if not record["verdict"]["passed"]:
        raise stage.AccuracyGateError(
            f"{candidate}: expected an AP drop of at most {max_ap_drop:g}, got {said}; run `tools"
            " export --data_type int8 --auto-mixed` with this split as its gate"
        )
    typer.echo(f"{candidate}  {said}, at most {max_ap_drop:g}")


class RuntimeChoice(StrEnum):
    """`tools.engines.Runtime`."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


def build_engine(
    model: Annotated[
        Path, typer.Argument(help="ONNX file from `tools export`.", exists=True, dir_okay=False)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", "--engine_file", "--engine-file", help="To write.")
    ] = Path("build/model.plan"),
    runtime: Annotated[
        RuntimeChoice, typer.Option(help="tensorrt-rtx builds without a GPU, as a proof.")
    ] = RuntimeChoice.TENSORRT,
    max_batch_size: Annotated[int, typer.Option("--max_batch_size", "--max-batch-size", min=1)] = 8,
    opt_batch_size: Annotated[
        int | None,
        typer.Option(
            "--opt_batch_size", "--opt-batch-size", min=1, show_default="as --max_batch_size"
        ),
    ] = None,
    workspace_mib: Annotated[int, typer.Option(min=1, help="Scratch memory, MiB.")] = 2048,
    timing_cache: Annotated[
        Path | None, typer.Option(help="Kernel timings: read if it exists, and written.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Runs on newer versions; may be slower.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Runs from Ampere on; may be slower.")
    ] = False,
) -> None:
    """Build a TensorRT engine; its precision is the graph's.

    Example: `tools build-engine int8.onnx -o model.plan --max_batch_size 8`
    """
    from . import engines as stage

    settings = stage.EngineSettings(
        stage.Runtime(runtime),
        max_batch_size,
        opt_batch_size,
        workspace_mib,
        timing_cache,
        version_compatible,
        hardware_compatible,
    )
    made = stage.build_engine(model, output, settings, lambda line: typer.echo(line, err=True))
    typer.echo(f"{made.path}  {made.sha256[:12]}  {made.settings['runtime_version']}")


def compare_speed(
    float_model: Annotated[
        Path, typer.Argument(metavar="FLOAT", help="From `tools export`.", dir_okay=False)
    ],
    int8_model: Annotated[
        Path, typer.Argument(metavar="INT8", help="Its INT8 version.", dir_okay=False)
    ],
    rounds: Annotated[int, typer.Option(min=1, help="Each times every variant once.")] = 40,
    batch_size: Annotated[int, typer.Option("--batch_size", "--batch-size", min=1)] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of every runtime.", show_default="all cores")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
    ] = None,
) -> None:
    """How fast the network alone runs on this CPU: ONNX Runtime and OpenVINO, float to INT8.

    Example: `tools compare-speed model.onnx int8.onnx --json speed.json`
    """
    import os

    import numpy as np

    from .accuracy_gate import write_record
    from .network_speed import speed_record
    from .onnx_contract import spec_in_onnx
    from .sample_images import packaged_images

    photos = packaged_images(spec_in_onnx(float_model).network_hw)
    pixels = np.resize(photos, (batch_size, *photos.shape[1:]))
    record = speed_record(float_model, int8_model, pixels, rounds, threads or os.cpu_count() or 1)
    for name, numbers in record["variants"].items():
        spent, ratio = numbers["milliseconds"], numbers["times_as_fast"]
        typer.echo(
            f"{name:26} {spent['median']:7.1f} ms   {ratio['median']:5.2f} x"
            f"  ({ratio['p10']:.2f} to {ratio['p90']:.2f})"
        )
    typer.echo(f"x: times as fast as {record['baseline']}, {rounds} interleaved rounds")
    if json_out:
        write_record(json_out, record)


def compare(
    one: Annotated[Path, typer.Argument(metavar="A", help="Reference: .keras or .onnx.")],
    other: Annotated[Path, typer.Argument(metavar="B", help=".keras or .onnx.")],
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
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the numbers as JSON.")
    ] = None,
) -> None:
    """How far two models' outputs and joints are apart on the same images.

    Example: `tools compare model.onnx int8.onnx --images calibration`
    """
    from .accuracy_gate import write_record
    from .evaluate import open_predictor
    from .model_comparison import compare_models
    from .sample_images import images_in, packaged_images

    network_hw = open_predictor(one)[1].network_hw
    pixels = images_in(images, network_hw) if images else packaged_images(network_hw)
    record = compare_models(one, other, pixels)
    for name, errors in record["outputs"].items():
        typer.echo(f"{name:12} mean error {errors['mean']:.2g}, largest {errors['max']:.2g}")
    joints = record["joints"]
    typer.echo(
        f"{joints['compared']} joints: median {joints['shift_px']['median']} px apart, 95 % within"
        f" {joints['shift_px']['p95']} px; {joints['agreement']:.4f} stay"
    )
    if json_out:
        write_record(json_out, record)
