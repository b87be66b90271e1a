"""What docs/performance.md and the README say of a GPU, from its record, and the picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bodypose_tools.files.figures import png_axes
from bodypose_tools.results.record import KEY

Record = Mapping[str, Any]

PICTURE: Final = "gpu-clients.png"
# Subject of the record -> who decodes.
_ENSEMBLES: Final = {"ensemble": "CPU", "ensemble-card": "card"}
_AROUND: Final = {"around": "CPU", "around-card": "card"}


def gpu_section(record: Record, folder: str) -> str:
    """The tables of a GPU, as Markdown; subjects that were not measured are left out.

    Args:
        record: of `tools benchmark --device cuda`.
        folder: of the picture, from the page.
    """
    machine = record[KEY]["machine"]
    lines = [
        f"{machine['gpu']}, {machine['cores']} cores shared with the clients,"
        f" [gpu.json]({folder}/gpu.json). Times are of the whole call, copies included.",
        "",
        *_networks(record),
        *_decoding(record),
        *_ensembles(record),
        *_profile(record),
        *_cards(record),
    ]
    if any(name in record for name in _ENSEMBLES):
        lines += [f"![images/s and latency by clients]({folder}/{PICTURE})", ""]
    return "\n".join(lines)


def served_at_best(record: Record) -> tuple[float, str] | None:
    """The largest rate of the ensemble, and who decoded."""
    best = [
        (max(step["images_per_s"] for step in record[name]["by_clients"]), who)
        for name, who in _ENSEMBLES.items()
        if name in record
    ]
    return max(best) if best else None


def draw_clients(record: Record, folder: Path) -> Path | None:
    """Draw images/s against clients; nothing when no ensemble was measured."""
    if served_at_best(record) is None:
        return None
    with png_axes(folder / PICTURE, (6, 3.6)) as axes:
        for subjects, style in ((_ENSEMBLES, "o-"), (_AROUND, "o:")):
            for name, who in subjects.items():
                if name in record:
                    curve = record[name]["by_clients"]
                    what = "" if subjects is _ENSEMBLES else ", network free"
                    axes.plot(
                        [step["clients"] for step in curve],
                        [step["images_per_s"] for step in curve],
                        style,
                        label=f"{who} decodes{what}",
                    )
        axes.set(xlabel="clients", ylabel="images/s", xlim=(0, None), ylim=(0, None))
        axes.legend()
    return folder / PICTURE


def _networks(record: Record) -> list[str]:
    lines: list[str] = []
    for precision, network in record.get("networks", {}).items():
        by_batch = network["by_batch"]
        if not lines:
            lines = [
                f"| network, images/s at batch | {' | '.join(by_batch)} | p50 of one image"
                " | first start, next | memory | p99 at random batch sizes |",
                "|---" * (len(by_batch) + 5) + "|",
            ]
        rates = " | ".join(f"{each['images_per_s']:,}" for each in by_batch.values())
        lines.append(
            f"| {precision} | {rates} | {by_batch['1']['p50_ms']:.2f} ms"
            f" | {network['first_start_s']:.0f} s, {network['next_start_s']:.0f} s"
            f" | {network['card_memory_gib']:.1f} GiB"
            f" | {network['random_order']['p99_over_steady_p99']:.2f} times the steady one |"
        )
    return [*lines, ""]


def _decoding(record: Record) -> list[str]:
    if "decoding" not in record:
        return []
    decoding = record["decoding"]
    rates = ", ".join(
        f"{each['decoded and letterboxed']['images_per_s']:,} at batch {batch}"
        for batch, each in decoding["by_batch"].items()
    )
    return [
        f"The card's decoder takes {decoding['by_the_card']} of {decoding['photos']} COCO photos;"
        f" their letterboxed pixels differ from the CPU's by at most"
        f" {decoding['largest_difference']} of 255. Decoded and letterboxed, images/s: {rates}.",
        "",
    ]


def _ensembles(record: Record) -> list[str]:
    rows = []
    for subjects, network in ((_ENSEMBLES, "real"), (_AROUND, "free")):
        for name, who in subjects.items():
            if name not in record:
                continue
            served = record[name]
            best = max(served["by_clients"], key=lambda step: step["images_per_s"])
            alone = served["one_client"]["latency_ms"]
            rows.append(
                f"| {who} | {network} | {best['images_per_s']:,.0f} | {best['clients']}"
                f" | {best['latency_ms']['median']:.0f} ms, {best['latency_ms']['p99']:.0f} ms"
                f" | {best['cores_per_1000_images_per_s']:.1f} | {alone['median']:.1f} ms |"
            )
    if not rows:
        return []
    return [
        "| who decodes | network | images/s | clients | p50, p99 | cores per 1,000 images/s"
        " | one client waits |",
        "|---" * 7 + "|",
        *rows,
        "",
    ]


def _profile(record: Record) -> list[str]:
    if "profile" not in record:
        return []
    profile = record["profile"]
    total = sum(profile["ms_by_kind"].values())
    kinds = ", ".join(
        f"{kind} {ms / total:.0%}"
        for kind, ms in sorted(profile["ms_by_kind"].items(), key=lambda item: -item[1])
    )
    return [f"A batch of {profile['batch']} takes {total:.1f} ms on the card: {kinds}.", ""]


def _cards(record: Record) -> list[str]:
    cards = record.get("cards", {})
    if not cards.get("times_as_fast"):
        return []
    one, two = (max(step["images_per_s"] for step in cards[n]["by_clients"]) for n in ("1", "2"))
    return [
        f"One server on two cards: {cards['times_as_fast']:.2f} times the images/s of one,"
        f" {two:,.0f} against {one:,.0f}.",
        "",
    ]
