"""What each command is asked about each kind of file: one line for every option that names one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from bodypose_loadtest.errors import NoServer
from bodypose_loadtest.server_process import RunningServer
from bodypose_tools.bulk.jobs import Job
from bodypose_tools.bulk.sources import Part
from bodypose_tools.bulk.worker import Done, Worker
from pose_runtime.errors import PoseError
from tests.command_walk import Command, commands, line_of

WALK = {str(command): command for command in commands()}

# Words that many questions have.
SHORT = {
    "scored": "-a {people} -i {coco}",
    "photo": "-a {labels} -i {in}/img",
    "int8": "-m {small} -o {in}/int8.onnx --data-type int8",
    "calibrated": "--cal-image-dir {coco} --batches 1 --batch-size 2",
    "half": "-m {tiny} -o {in}/half.onnx --data-type fp16",
    "bulk": "-m {tiny}",
    "adopted": "{foreign} {fields} -o {in}/adopted.onnx",
    "fields": "--heatmaps heat --affinity paf --background last {colours} --max-peaks 3",
    "colours": "--colours rgb --mean 0 --std 255",
    "nobody": "--url grpc://127.0.0.1:1/x --timeout 0.1",
    "encrypted": "--server grpcs://127.0.0.1:1 --timeout 0.1",
    "nobody-encrypted": "--url grpcs://127.0.0.1:1 --timeout 0.1",
}
# {file} is the mutant and {in} its folder. {none} is not there; {tiny} and {keras} are networks;
# {coco} has images and {people} their labels; {labels} are those of the image of kind `image`.
QUESTIONS = """
skeleton: tools oracle -a {none} -i . --skeleton {file}
skeleton: tools sample-calibration-images -a {none} -i . -o {in}/new --skeleton {file}
skeleton: tools adopt {adopted} --skeleton {file}
grouping: tools evaluate {tiny} {scored} --grouping {file}
tuning: tools build-repo {tiny} -o {in}/repository --tuning {file}
inputs: tools compare {tiny} {tiny} --load-inputs {file}
outputs: tools compare {tiny} {file}
results: pose-client evaluate -a {people} --compare {file} {results} --resamples 10
results: pose-client evaluate -a {people} --compare {results} {file} --resamples 10
report: pose-loadtest run --scenario step -o {in}/new --compare {file}
layers: tools export {int8} {calibrated} --layers-from {file}

list: pose-client infer {file} {nobody}
list: tools inference {tiny} {file} -o {in}/found
list: tools bulk {file} -o {in}/poses {bulk}
lines: tools bulk {file} -o {in}/poses {bulk}
shard: tools bulk {file} -o {in}/poses {bulk}
table: tools bulk {file} -o {in}/poses {bulk}

spec: tools train -e {file} -r {in}/run
spec: tools retrain -e {file} -m none.keras -r {in}/run
spec: tools optimize -e {file} -m none.keras -r {in}/run
spec: tools profile-input -e {file}
spec: tools prune -e {file} -m none.keras -o {in}/p.keras --importance taylor
tao: tools import-tao-spec {file} -o {in}/spec.yaml
tao: tools train -e {file} -r {in}/run
tao-inference: tools import-tao-spec {file}
tao-inference: tools evaluate {none} -a {people} --images {coco} -i {file}
dataset: tools dataset-convert -m train -o {in}/new --dataset-spec {file}
dataset: tools import-tao-spec {tao} -d {file} -o {in}/spec.yaml
performance: tools benchmark-report {file} -o {in}/page.md
performance: tools benchmark {tiny} --subject decoding -o {file}
notes: tools benchmark-report {performance} -o {in}/page.md --notes {file}

pixels: tools export {int8} --batches 1 --batch-size 2 --cal-data-file {file}
cache: tools export {int8} {calibrated} --cal-cache-file {file}
weights: tools interpolate -m {keras} -w {file} -o {in}/between.keras
package: tools import-backbone {file} -o {in}/weights.npz
package: tools import-movenet-graph {file} -o {in}/movenet.onnx
wheel: tools import-backbone {file} -o {in}/weights.npz
torch: tools import-backbone {file} -o {in}/weights.npz

foreign: tools adopt {file} {fields} -o {in}/adopted.onnx
onnx: tools build-repo {file} -o {in}/repository
onnx: tools build-repo {file} -o {in}/repository --target cpu
onnx: tools build-repo {file} -o {in}/repository --target gpu
onnx: tools export -m {file} -o {in}/half.onnx --data-type fp16
small: tools export -m {file} -o {in}/int8.onnx --data-type int8 {calibrated}
small: tools equalise {file} -o {in}/equal.onnx --cal-image-dir {coco} -n 2
onnx: tools compare {file} {tiny}
onnx: tools compare {tiny} {file}
onnx: tools compare-speed {file} {tiny}
onnx: tools compare-speed {tiny} {file}
onnx: tools inference {file} {coco}/1.png -o {in}/found
onnx: tools bulk {coco} -o {in}/poses -m {file}
onnx: tools evaluate {file} {scored}
onnx: tools evaluate {tiny} {scored} --float-model {file}
onnx: tools tune-grouping {file} {scored}
onnx: tools gate {file} {tiny} {scored}
onnx: tools gate {tiny} {file} {scored}
onnx: tools build-engine {file} -o {in}/model.plan --runtime tensorrt-rtx
small: tools benchmark {file} -o {in}/benchmark.json --quick
onnx: tools benchmark {tiny} -o {in}/benchmark.json --quick --subject rivals --movenet {file}
onnx: tools tune {file} -o {in}/tuning.json
small: tools compare-quantisers {file} {scored} --cal-image-dir {coco} -n 2 -o {in}/q.json
onnx: tools import-movenet-graph {file} -o {in}/movenet.onnx

keras: tools prune -m {file} -o {in}/pruned.keras
keras: tools retrain -e {spec} -m {file} -r {in}/run
keras: tools optimize -e {spec} -m {file} -r {in}/run
keras: tools interpolate -m {file} -o {in}/between.keras
keras: tools add-pyramid -m {file} -o {in}/more.keras
keras: tools remove-pyramid -m {file} -o {in}/less.keras
keras: tools export -m {file} -o {in}/net.onnx --sdk-compatible-model
keras: tools evaluate {file} {scored}
keras: tools compare-modes {file} {scored}
keras: tools compare-sizes {file} {scored} -d 96,96,3
record: tools inference {in}/net.keras {coco}/1.png -o {in}/found
plan: tools evaluate {file} {scored}
plan: tools build-repo {file} -o {in}/repository --device cuda
plan: tools build-repo {file} -o {in}/repository --target gpu
plan: tools compare {tiny} {file}
engine-record: tools evaluate {in}/model.plan {scored}
engine-record: tools build-repo {in}/model.plan -o {in}/repository --device cuda
engine-record: tools build-repo {in}/model.plan -o {in}/repository --target gpu

repository: tools check-repo {in}/repository
repository: tools serve {in}/repository
repository: tools rollback {in}/repository
repository: tools promote 2 {in}/repository
repository: tools deploy-files {in}/repository -o {in}/deployed
repository: tools build-repo {tiny} -o {in}/repository --version 2
repository: tools tune --url 127.0.0.1:1 --repository {in}/repository -o {in}/tuning.json
repository: tools soak {in}/repository -o {in}/soak.json
repository: pose-loadtest run --scenario step -o {in}/new --repository {in}/repository
repository: pose-loadtest headroom --repository {in}/repository
repository: pose-loadtest result -o {in}/result.json --repository {in}/repository
pipeline: tools check-repo {in}/repository
pipeline: tools serve {in}/repository
pipeline: tools deploy-files {in}/repository -o {in}/deployed
pipeline: tools build-repo {tiny} -o {in}/repository --version 2
pipeline: tools tune --url 127.0.0.1:1 --repository {in}/repository -o {in}/tuning.json
config: tools check-repo {in}/repository
config: tools serve {in}/repository
config: tools deploy-files {in}/repository -o {in}/deployed
config: tools build-repo {tiny} -o {in}/repository --version 2
config: tools tune --url 127.0.0.1:1 --repository {in}/repository -o {in}/tuning.json
served-network: tools check-repo {in}/repository
run: tools ablation {in}/a {in}/b
run: tools data-scaling {in}/a {in}/b {in}/c

certificate: tools bulk {coco} -o {in}/poses {encrypted} --ca-file {file}
certificate: pose-client describe --ca-file {file} {nobody-encrypted}
certificate: pose-client describe --cert-file {file} --key-file {file} {nobody-encrypted}
video: pose-client video {file} --jsonl {in}/out.jsonl {nobody}

image: tools evaluate none.keras {photo} --check-images
image: tools evaluate {tiny} {photo}
image: tools inference {tiny} {file} -o {in}/found --visualize
image: tools bulk {in}/img -o {in}/poses {bulk}
image: tools oracle {photo} -d 96,96,3
image: tools tune-grouping {tiny} {photo}
image: tools export {int8} --cal-image-dir {in}/img --batches 1 --batch-size 1
image: tools export {half} --sample-images {in}/img
image: tools export {half} --gate-annotations {labels} --gate-images {in}/img --check-images
image: tools adopt {adopted} --sample-images {in}/img
image: tools adopt {adopted} --check-annotations {labels} --images {in}/img
image: tools sample-calibration-images {photo} -o {in}/new -n 1
image: tools equalise {small} -o {in}/equal.onnx --cal-image-dir {in}/img -n 1
image: tools gate {tiny} {tiny} {photo}
image: tools compare {tiny} {tiny} -i {in}/img
image: tools benchmark {tiny} {photo} -o {in}/benchmark.json --check-images
image: tools compare-quantisers {small} {scored} --cal-image-dir {in}/img -n 1 -o {in}/q.json
image: tools compare-quantisers none.onnx {photo} --cal-image-dir . -o {in}/q.json --check-images
image: tools compare-modes none.keras {photo} --check-images
image: tools compare-sizes none.keras {photo} -d 64,64,3 --check-images
image: tools demo {file} -o {in}/demo.png
image: pose-client evaluate {photo} {nobody} --check-images
"""


@dataclass(frozen=True)
class Question:
    """What one command is asked about files of one kind."""

    kind: str
    command: Command
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        named = [
            before.lstrip("-")
            for before, each in pairwise((str(self.command), *self.arguments))
            if "{file}" in each or (each.startswith("{in}/") and before.startswith(("-", "tools")))
        ]
        return " ".join([self.kind, "in", str(self.command), *named])

    def options(self) -> set[str]:
        """Parameters of the command that name the file, or a folder with it."""
        given = self.command.parsed(self.arguments)
        return {name for name, value in given.items() if re.search(r"{(file|in)}", str(value))}

    def answer(self, file: Path, folder: Path, places: Mapping[str, Path]) -> str:
        """The command's one line about a file, as in `line_of`."""
        named = {**places, "file": file, "in": folder}
        return line_of(self.command, [each.format(**named) for each in self.arguments])


def questions() -> Iterator[Question]:
    """All of them."""
    for line in filter(None, QUESTIONS.splitlines()):
        kind, _, asked = line.partition(": ")
        for name, words in SHORT.items():
            asked = asked.replace(f"{{{name}}}", words)
        command = next(each for each in WALK if asked.startswith(f"{each} "))
        yield Question(kind, WALK[command], tuple(asked.removeprefix(command).split()))


READ = "all files are read"


class Seam(PoseError):
    """All of a question's files are read; what is long would begin."""


# Where that is, for every question.
SEAMS = (
    "bodypose_tools.server.embedded.embedded_server",
    "bodypose_tools.soak.run.embedded_server",
    "bodypose_tools.benchmark.tune.grpc_stub",
    "bodypose_tools.server.demo.build_repository",
    "bodypose_tools.results.record.Measurement.write",
    "bodypose_tools.training.train.BestNetwork",
    "bodypose_tools.pruning.loop.evaluate_model",
    "bodypose_tools.experiments.views.field_network",
    "bodypose_tools.export.onnx_from_keras.converted",
    "bodypose_tools.benchmark.rivals.take_turns",
    "bodypose_tools.benchmark.quantisers.environment",
    "keras.Model.predict_on_batch",
)
# And for those about one kind of file, which comes before.
EARLIER = {
    "notes": "bodypose_tools.benchmark.plots.draw",
    "performance": "bodypose_tools.benchmark.run.subjects_of",
}


def cut_at_seams(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Ends questions about a kind where reading ends; none starts a process or a server."""

    def stop(*arguments: object, **options: object) -> None:
        raise Seam(READ)

    def start(*arguments: object, **options: object) -> None:
        raise AssertionError("expected a question without processes of its own")

    for seam in (*SEAMS, *filter(None, [EARLIER.get(kind)])):
        monkeypatch.setattr(seam, stop)
    monkeypatch.setattr("subprocess.Popen", start)
    monkeypatch.setattr("bodypose_tools.bulk.processes.in_processes", _in_this_process)
    for place in ("plan", "headroom"):
        monkeypatch.setattr(f"bodypose_loadtest.{place}.running_server", _as_serve_says)
    monkeypatch.setattr("bodypose_loadtest.headroom.known_server", contextlib.nullcontext)


def _in_this_process(
    job: Job, parts: Iterable[Part], workers: int | None = None
) -> Generator[Done, None, None]:
    yield from map(Worker(job), parts)


@contextlib.contextmanager
def _as_serve_says(repository: Path | None, model: Path | None = None) -> Iterator[RunningServer]:
    """A server that is not there; `tools serve`, which would start it, reads the repository."""
    if repository and (line := line_of(WALK["tools serve"], [repository])):
        raise NoServer(line)
    yield RunningServer(os.getpid(), "127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:1")
