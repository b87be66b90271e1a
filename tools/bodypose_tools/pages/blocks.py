"""The generated blocks of the pages: which there are, and the Markdown of each, from records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bodypose_loadtest.result import with_table
from bodypose_tools.benchmark.gpu_report import gpu_section, served_at_best
from bodypose_tools.benchmark.quantisers import quantisers_table
from bodypose_tools.benchmark.report import report
from bodypose_tools.deploying.sizing import sizing_table
from bodypose_tools.experiments.data_scaling import scaling_table
from bodypose_tools.experiments.runs import ablation_table
from bodypose_tools.experiments.views import modes_table
from bodypose_tools.files.artifacts import Artifact
from bodypose_tools.files.settings import ShippedModel
from bodypose_tools.files.shipped import float_graph, int8_graph
from bodypose_tools.pruning.pareto import TradeOff
from bodypose_tools.results.ratios import Ratio
from bodypose_tools.results.record import read_made
from pose_runtime.errors import PoseError

Record = Mapping[str, Any]


class PageError(PoseError):
    """A page lacks the marks of a block."""


_PLOTS: Final = {  # as `benchmark/plots.py` names them
    "Grouping by people in the image": "performance-people.png",
    "Preprocessing by image size": "performance-sizes.png",
    "The network by batch": "performance-batch.png",
    "Throughput and latency by clients": "performance-clients.png",
    "AP by the time of one photo, end to end": "performance-pareto.png",
}
_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR")
_SCORES = {
    "val-keras": ("Keras", "`tools evaluate`"),
    "val-onnx": ("ONNX", "`tools evaluate`"),
    "val-server-grpc": ("Triton, gRPC", "`pose-client evaluate`"),
    "val-server-http": ("Triton, HTTP", "`pose-client evaluate`"),
    "oracle": ("ideal fields", "`tools oracle`"),
}
# Network -> its gates, and its speed, in INT8.
_INT8 = {
    "`bodypose-s`, for CPUs": ("int8-gate", "int8"),
    "`bodypose-s` as shipped, with bfloat16 for the rest": ("int8-gate-bf16", None),
    "`bodypose-xs` as shipped, with bfloat16 for the rest": ("int8-gate-xs-bf16", None),
    "`bodypose-s`, for TensorRT": ("int8-gate-signed", "int8-signed"),
    "`bodypose-s` pruned": ("int8-gate-pruned", "int8-pruned"),
    "`bodypose-vgg19`": ("int8-gate-vgg19", "int8-vgg19"),
    "`bodypose-vgg19` pruned": ("int8-gate-vgg19-pruned", "int8-vgg19-pruned"),
}
_SPEEDS = {
    "OpenVINO, bfloat16": "openvino bf16",
    "OpenVINO, INT8": "openvino int8",
    "OpenVINO, INT8, rest bfloat16": "openvino int8, rest bf16",
    "ONNX Runtime, float32": "onnxruntime fp32",
    "ONNX Runtime, INT8": "onnxruntime int8",
}


@dataclass(slots=True)
class Records:
    """The records of a folder, by name without `.json`, and which of them were asked for."""

    folder: Path
    asked: set[str] = field(default_factory=set)

    def __getitem__(self, name: str) -> dict[str, Any]:
        self.asked.add(name)
        return read_made(self.folder / f"{name}.json")[0]


def scores(records: Records) -> str:
    rows = [f"| what | {' | '.join(_METRICS)} | written by |", "|---" * 8 + "|"]
    for name, (what, command) in _SCORES.items():
        metrics = records[name]["metrics"]
        cells = [what, *(f"{metrics[metric]:.3f}" for metric in _METRICS)]
        rows.append(f"| {' | '.join(cells)} | {command} [{name}](docs/results/{name}.json) |")
    return _lines(rows)


def models(_: Records) -> str:
    """The shipped graphs, from the records beside them: bytes, sha256, what INT8 loses in AP."""
    rows = ["| model | graph | bytes | sha256 | gates of INT8, in its record |", "|---" * 5 + "|"]
    for model in ShippedModel:
        for kind, graph in (("float32", float_graph(model)), ("INT8", int8_graph(model))):
            made = Artifact.open(graph)
            gates = "; ".join(
                f"{gate['measure']} {gate['value']:.4f}, limit {gate['limit']:g}"
                for gate in made.settings.get("gates", ())
            )
            size = f"{graph.stat().st_size:,}"
            rows.append(f"| `{model}` | {kind} | {size} | `{made.sha256[:12]}` | {gates} |")
    return _lines(rows)


def levers(records: Records) -> str:
    """Pruning by its loop, INT8 by its gate and its speed."""
    rows = ["| lever | AP | times as fast |", "|---|---|---|"]
    for network, raw in records["prune"]["networks"].items():
        loop = TradeOff.from_json(raw)
        rows.append(
            f"| `{network}` pruned to {loop.macs_share(loop.best):.0%} of its multiplications"
            f" | {loop.unpruned.ap:.3f} -> {loop.best.ap:.3f}"
            f" | {loop.best.times_as_fast('openvino'):.2f} |"
        )
    for title, (gate, speed) in _INT8.items():
        if speed is None or "TensorRT" in title:
            continue
        before, after = _aps(records[gate])
        variants = records[speed]["variants"]
        alone, mixed = (
            variants[side]["times_as_fast"]["median"]
            for side in ("openvino int8", "openvino int8, rest bf16")
        )
        network = title.partition(", ")[0]
        rows.append(
            f"| {network}, INT8 | {before:.3f} -> {after:.3f} | {alone:.2f}, with bfloat16 for the"
            f" rest {mixed:.2f} |"
        )
    return _lines([*rows, *_gpu_lever(records)])


def _gpu_lever(records: Records) -> list[str]:
    """The network on a GPU, and what its server answers."""
    record = records["gpu"]
    best = served_at_best(record)
    if best is None:
        return []
    before, after = _aps(records["gpu-gate"])
    gpu = record["made"]["machine"]["gpu"]
    return [
        f"| `bodypose-s` on one {gpu}, float16 | {before:.3f} -> {after:.3f} | {best[0]:,.0f}"
        " images/s served |"
    ]


def int8_gates(records: Records) -> str:
    rows = ["| INT8 graph | AP float32 | AP INT8 | drop | limit | record |", "|---" * 6 + "|"]
    for title, (gate, _) in _INT8.items():
        record = records[gate]
        before, after = _aps(record)
        verdict = record["verdict"]
        rows.append(
            f"| {title} | {before:.4f} | {after:.4f} | {verdict['value']:.4f}"
            f" | {verdict['limit']:g} | [{gate}](../results/{gate}.json) |"
        )
    return _lines(rows)


def int8_speeds(records: Records) -> str:
    rows = [f"| INT8 graph | {' | '.join(_SPEEDS)} | rounds |", "|---" * 7 + "|"]
    for title, (_, speed) in _INT8.items():
        if speed is None:
            continue
        record = records[speed]
        ratios = [record["variants"][side]["times_as_fast"] for side in _SPEEDS.values()]
        cells = [f"{r['median']:.2f} ({r['p10']:.2f} to {r['p90']:.2f})" for r in ratios]
        rows.append(
            f"| [{title}](../results/{speed}.json) | {' | '.join(cells)} | {record['rounds']} |"
        )
    return _lines(rows)


def pruned(network: str) -> Callable[[Records], str]:
    def table(records: Records) -> str:
        return _lines(list(TradeOff.from_json(records["prune"]["networks"][network]).table()))

    return table


def quantisers(records: Records) -> str:
    return _lines(quantisers_table(records["quantisers"]))


def soak(records: Records) -> str:
    record = records["soak"]
    server, client = (record["resources"][name] for name in ("server_mib", "client_mib"))
    recovery = record["recovery_s"]
    return _lines(
        [
            f"[soak.json](results/soak.json): {record['seconds'] / 60:.0f} minutes at"
            f" {record['rate_per_s']:.1f} requests/s, {record['sent']:,} sent,"
            f" {record['hostile_refused']:,} refused as they should, {record['lost']} lost,"
            f" {record['wrong']} wrong, {record['doubled']} doubled; {len(record['kills_at_s'])}"
            f" kills, each over within {min(recovery)} to {max(recovery)} s. Median of the first"
            f" and the last quarter: server {server['first']:.0f} and {server['last']:.0f} MiB,"
            f" client {client['first']:.0f} and {client['last']:.0f} MiB. Latency p50"
            f" {record['latency_ms']['p50']:.0f} ms, p99 {record['latency_ms']['p99']:.0f} ms."
        ]
    )


def client_leak(records: Records) -> str:
    record = records["client_leak"]
    ways = [each for each in record.values() if isinstance(each, Mapping) and "calls" in each]
    grown = [way["rss_mib_at_the_end"] - way["rss_mib_after_warm_up"] for way in ways]
    return _lines(
        [
            f"[client_leak.json](results/client_leak.json): {ways[0]['calls']:,} images by each of"
            f" {len(ways)} ways of asking (client, protocol, shared memory): memory afterwards"
            f" {min(grown):+.1f} to {max(grown):+.1f} MiB, open files"
            f" {max(way['open_files_more_after_close'] for way in ways):+d} and threads"
            f" {max(way['threads_more_after_close'] for way in ways):+d} at most."
        ]
    )


def isolation(records: Records) -> str:
    record = records["isolation"]
    low, high = record["p99_ratio_95"]
    return _lines(
        [
            f"[isolation.json](results/isolation.json): {record['good_requests']} answers,"
            f" {record['changed_answers']} changed; p99 {record['p99_ratio']:.2f} times (95 %:"
            f" {low:.2f} to {high:.2f}), median {record['without']['p50_ms']:.0f} ms without and"
            f" {record['with']['p50_ms']:.0f} ms with hostile requests."
        ]
    )


def fuzz(records: Records) -> str:
    record = records["fuzz"]
    return _lines(
        [
            f"[fuzz.json](results/fuzz.json): {record['minutes']:.0f} minutes,"
            f" {record['executions'] / 1e6:.1f} million executions, {len(record['findings'])}"
            f" findings; memory after half and all of {record['replay']['times']} replays"
            f" {record['replay']['rss_mb_after_half']:.0f} and"
            f" {record['replay']['rss_mb_in_the_end']:.0f} MB."
        ]
    )


def hostile(records: Records) -> str:
    record = records["hostile"]
    answers: Counter[str] = Counter()
    for kind in record["kinds"].values():
        for answer, count in kind["answers"].items():
            answers[answer.partition(":")[0]] += count
    slowest = max(kind["ms"]["max"] for kind in record["kinds"].values()) / 1e3
    images = record["kinds"]["images"]
    return _lines(
        [
            f"[hostile.json](results/hostile.json): {record['inputs']} inputs of"
            f" {len(record['kinds'])} kinds, of which {images['inputs']} are images;"
            f" {answers['answered']} answered, {answers['refused']} refused in one line,"
            f" {record['tracebacks']} tracebacks. The slowest took {slowest:.1f} s, the slowest"
            f" image {images['ms']['max'] / 1e3:.1f} s; the process had {record['peak_mib']} MiB at"
            " its peak, its libraries included."
        ]
    )


def container(records: Records) -> str:
    record = records["container"]
    steps = record["steps"]
    return _lines(
        [
            f"[container.json](results/container.json), of `prove.py` with {record['engine']} and"
            f" the base `{record['image']['base']}`: Triton {steps['serve']['triton']},"
            f" {sum(record['held'].values())} of {len(record['held'])} promises held; AP"
            f" {steps['evaluate']['metrics']['AP']:.3f} on {steps['evaluate']['images']} images;"
            f" {steps['drain']['answered']} images answered and {steps['drain']['lost']} lost when"
            " it was stopped under load."
        ]
    )


def input_profile(records: Records) -> str:
    record = records["input_profile"]
    rates = record["images_per_second"]
    return _lines(
        [
            f"[input_profile.json](results/input_profile.json), {record['device']}, batch"
            f" {record['batch_size']}, {record['workers']} workers: the step alone"
            f" {rates['batches_on_device']:,.0f} images/s, with real data"
            f" {rates['real_data']:,.0f}, a share of **{record['share']:.2f}**; the stream alone"
            f" {rates['input_alone']:,.0f} images/s."
        ]
    )


def sizing(records: Records) -> str:
    """The worked example: 100 images/s, and a card whose network answers 1,000."""
    return sizing_table(records["loadtest"], records["performance"], 100, 1000)


def bulk(records: Records) -> str:
    record = records["bulk"]
    compared = record["against_the_network"]
    lines = [
        f"[bulk.json](results/bulk.json), {compared['workers']} workers on as many cores, paired in"
        " turns:",
        "",
        "| | images/s | of the network alone | at least 0.95 | processor time of an image | the"
        " network's share |",
        "|---|---|---|---|---|---|",
        f"| network alone | {compared['network alone']['median']:.1f} | | |"
        f" {compared['network alone']['cpu_ms']:.1f} ms | |",
    ]
    for name in ("without Ray", "on Ray"):
        if name not in compared:
            continue
        share = Ratio.from_json(compared[name]["share_of_the_network_alone"])
        of_cpu = Ratio.from_json(compared[name]["share_of_the_network_in_cpu_ms"])
        lines.append(
            f"| {name} | {compared[name]['median']:.1f} | {share} | {share.at_least(0.95)} |"
            f" {compared[name]['cpu_ms']:.1f} ms | {of_cpu} |"
        )
    parts = record["part_by_part"]
    share = Ratio.from_json(parts["share"])
    lines += [
        "",
        f"Part by part, each of {parts['images_of_a_part']} images, in turns with the network alone"
        f" in the same process while all workers run: {share} of its images/s, {share.pairs} parts;"
        f" {share.at_least(0.95)}. There the minutes of a shared machine cancel.",
    ]
    rates = record["images_per_s_by_workers"].items()
    by_workers = ", ".join(f"{workers}: {rate:.1f}" for workers, rate in rates)
    lines += ["", f"Images/s by workers, without Ray: {by_workers}.", ""]
    for name in ("without Ray", "on Ray"):
        many = record["many"][name]
        known = [mib for mib in many["mib_by_tenth"] if mib is not None]
        lines.append(
            f"* {many['images']:,} images {name}, by a network that costs next to nothing:"
            f" {many['images_per_s']:.0f} images/s with start and planning; all processes together"
            f" {known[0]:.0f} MiB in the first tenth and {known[-1]:.0f} MiB in the last."
        )
    return _lines(lines)


def scale_out(records: Records) -> str:
    record = records["fleet"]
    lines = []
    for name, behind in (("envoy", "Envoy"), ("round_robin", "the client's own `round_robin`")):
        result = record["balancers"][name]
        answers = result["answers_by_version"]
        lines.append(
            f"* {behind}: farthest from an even spread {100 * result['spread']['farthest']:.1f} %;"
            f" {answers['1']:,} answers of version 1 and {answers['2']:,} of version 2,"
            f" {sum(result['lost'].values())} lost, {result['unlike_a_single_server']} unlike a"
            " single server's."
        )
    return _lines(lines)


# Page -> block -> its Markdown. `<!-- NAME -->` and `<!-- /NAME -->` stand around a block.
BLOCKS: Final[Mapping[str, Mapping[str, Callable[[Records], str]]]] = {
    "README.md": {"scores": scores, "levers": levers},
    "MODEL_CARD.md": {"models": models},
    "docs/notes/int8.md": {
        "int8-gates": int8_gates,
        "int8-speeds": int8_speeds,
    },
    "docs/training.md": {
        "input-profile": input_profile,
        "modes": lambda records: modes_table(records["modes"]),
        "sizes": lambda records: modes_table(records["sizes"]),
    },
    "docs/notes/training.md": {
        "data-scaling": lambda records: scaling_table(records["data_scaling"]),
        "ablation": lambda records: ablation_table(records["ablation"]),
        "recipes": lambda records: ablation_table(records["recipes"]),
    },
    "docs/notes/pruning.md": {
        "prune-bodypose-s": pruned("bodypose-s"),
        "prune-bodypose-vgg19": pruned("bodypose-vgg19"),
    },
    "docs/bulk.md": {"bulk": bulk},
    "docs/client.md": {"client-leak": client_leak},
    "docs/quantisers.md": {"quantisers": quantisers},
    "docs/operations.md": {"scale-out": scale_out, "soak": soak},
    "docs/fleet.md": {"sizing": sizing, "container": container},
    "docs/security.md": {"isolation": isolation, "fuzz": fuzz, "hostile": hostile},
}
PERFORMANCE: Final = "docs/performance.md"
LOAD_TEST: Final = "docs/load-testing.md"


def written_pages(root: Path, records: Records) -> Iterator[tuple[Path, str]]:
    """Every page with generated numbers, and its text as the records have it.

    Args:
        root: the checkout.
        records: of `docs/results`.

    Raises:
        RecordError: a record is missing or of an older schema.
        PageError, LoadTestError: a page has no marks for one of its blocks.
    """
    for name, blocks in BLOCKS.items():
        text = (root / name).read_text()
        for block, make in blocks.items():
            text = with_block(text, block, make(records), root / name)
        yield root / name, text
    notes_page = root / "docs/performance-notes.md"
    gpu = gpu_section(records["gpu"], "results")
    notes = with_block(notes_page.read_text(), "gpu", gpu, notes_page)
    drawn = {caption: f"results/{file}" for caption, file in _PLOTS.items()}
    plots = {caption: file for caption, file in drawn.items() if (root / "docs" / file).is_file()}
    yield root / PERFORMANCE, report(records["performance"], notes, plots)
    page = root / LOAD_TEST
    yield page, with_table(page.read_text(), records["loadtest"])


def with_block(text: str, block: str, made: str, page: Path) -> str:
    """A page's text with the block between its two comments.

    Raises:
        PageError: the page has no such comments.
    """
    start, end = f"<!-- {block} -->", f"<!-- /{block} -->"
    before, found, rest = text.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise PageError(f"{page}: expected {start} and {end} around the block, got none")
    return f"{before}{start}\n{made}{end}{after}"


def without_blocks(page: str, text: str) -> str:
    """A page's text without what `written_pages` writes."""
    if page == PERFORMANCE:
        return ""
    for block in BLOCKS.get(page, ()):
        text = re.sub(f"<!-- {block} -->.*?<!-- /{block} -->", "", text, flags=re.S)
    return re.sub(r"<!-- result:.*?<!-- end of result -->", "", text, flags=re.S)


def _aps(gate: Record) -> tuple[float, float]:
    before, after = (float(gate[side]["metrics"]["AP"]) for side in ("float", "candidate"))
    return before, after


def _lines(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
