"""The commands that train: `train`, `profile-input`; and TAO's specs: `import-tao-spec`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodypose_tools.options import (
    CheckImagesOption,
    GpusOption,
    JsonOption,
    SpecOption,
    new_file,
    new_folder,
)

from .settings import DatasetMode


def train(
    spec: SpecOption,
    results: Annotated[
        Path,
        typer.Option(
            "-r", "--results-dir", help="Folder that the run writes to.", callback=new_folder
        ),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint in --results-dir.")
    ] = False,
    fraction: Annotated[
        float | None,
        typer.Option(
            "--train-fraction",
            min=0.001,
            max=1,
            help="Fraction of the training images to use, chosen by random_seed; epochs are"
            " multiplied, so that the number of steps stays.",
        ),
    ] = None,
    check_images: CheckImagesOption = False,
    gpus: GpusOption = None,
) -> None:
    """Train a network, keeping the checkpoint with the best AP on the validation split.

    Example: `tools train -e specs/bodypose-s.yaml -r build/runs/bodypose-s`
    """
    from .spec import load_train_spec, on_fraction

    checked = load_train_spec(spec).on_devices(gpus)
    if fraction is not None:
        checked = on_fraction(checked, fraction)
    from . import train as stage

    best = stage.train(checked, results, resume=resume, say=typer.echo, check_images=check_images)
    typer.echo(f"{best.path}  {best.sha256[:12]}")


def profile_input(
    spec: SpecOption,
    steps: Annotated[int, typer.Option(min=1, help="Training steps in each timed interval.")] = 60,
    check_images: CheckImagesOption = False,
    json_out: JsonOption = None,
) -> None:
    """Measure whether training waits for its images.

    It times the training step with real data, and with batches that are on the device already.

    Example: `tools profile-input -e specs/bodypose-s.yaml --json input.json`

    A share of 0.9 or more is good. Below it, raise `workers` or `image_cache_mib` in the spec.
    """
    from bodypose_tools.results.record import Measurement

    from .spec import load_train_spec

    measurement = Measurement(timed=True)
    checked = load_train_spec(spec)
    from .input_profile import profile_input as measure

    record = measure(checked, steps, typer.echo, check_images=check_images)
    for name, rate in record["images_per_second"].items():
        typer.echo(f"{name:18} {rate:8.1f} images/s")
    typer.echo(f"{'share':18} {record['share']:8.3f}  of {record['device']}")
    if json_out:
        measurement.write(json_out, record, repeats={"rounds": 3, "order": "in turn"})


def import_tao_spec(
    spec: Annotated[
        Path,
        typer.Argument(
            metavar="TAO.yaml", help="Training or inference spec of TAO.", dir_okay=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Spec to write, a YAML file.", callback=new_file),
    ] = None,
    dataset_spec: Annotated[
        Path | None,
        typer.Option(
            "-d",
            "--dataset-spec",
            help="Data-set spec of TAO, such as coco_spec.json.",
            show_default="as TAO.yaml names it",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Translate a spec of TAO's BodyPoseNet, and list what has no meaning here.

    Example: `tools import-tao-spec bpnet_train_m1_coco.yaml -d coco_spec.json -o spec.yaml`

    An inference spec becomes options of `tools evaluate`, which are printed.
    """
    from bodypose_tools.data.yaml_files import read_yaml

    from . import tao_spec
    from .spec import checked_spec

    raw = read_yaml(spec)
    if tao_spec.is_inference_spec(raw):
        options, dropped = tao_spec.evaluation_options(spec)
        typer.echo(" ".join(["tools evaluate MODEL -a ANNOTATIONS -i IMAGES", *options]))
    else:
        translation = tao_spec.translate(raw, spec, dataset_spec)
        checked_spec(translation.spec, spec)
        dropped = translation.dropped
        if output is None:
            typer.echo(translation.as_yaml(), nl=False)
        else:
            translation.write(output)
            typer.echo(str(output))
    for path, why in dropped.items():
        typer.echo(f"left out: {path}: {why}", err=True)


def dataset_convert(
    dataset_spec: Annotated[
        Path, typer.Option("-d", "--dataset-spec", help="Data-set spec of TAO.", dir_okay=False)
    ],
    mode: Annotated[
        DatasetMode, typer.Option("-m", "--mode", help="Part of the data set.")
    ] = DatasetMode.TRAIN,
    output_filename: Annotated[
        str | None, typer.Option("-o", "--output-filename", help="Not used.")
    ] = None,
    num_partitions: Annotated[
        int, typer.Option("-p", "--num-partitions", min=1, help="Not used.")
    ] = 1,
    num_shards: Annotated[int, typer.Option("-s", "--num-shards", min=0, help="Not used.")] = 0,
    generate_masks: Annotated[bool, typer.Option("--generate-masks", help="Not used.")] = False,
    check_files: Annotated[bool, typer.Option("--check-files", help="Not used.")] = False,
) -> None:
    """Answer TAO's `dataset_convert`: training reads the COCO files themselves.

    Example: `tools dataset-convert -m train -o data/train --dataset-spec coco_spec.json`
    """
    from .tao_spec import read_splits

    splits = read_splits(dataset_spec)
    annotations, images = splits.train if mode is DatasetMode.TRAIN else splits.test
    typer.echo(
        f"nothing to convert: `tools train` reads {splits.root / annotations} and the images in"
        f" {splits.root / images}, and masks come from the annotations",
        err=True,
    )
