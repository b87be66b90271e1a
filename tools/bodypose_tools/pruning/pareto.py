"""The trade-off of a pruning loop: AP and cost of each step, which is best, the table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bodypose_tools.files.atomic_files import atomic_path
from bodypose_tools.files.json_records import RecordError, read_record
from bodypose_tools.results.record import Measurement
from pose_runtime.errors import PoseError

UNPRUNED = "unpruned"
SCHEMA = "bodypose-pareto/1"
RESULTS_SCHEMA = "bodypose-prune-results/1"

# Rounding must not decide whether a limit is kept.
_AP_DIGITS = 6


class ParetoError(PoseError):
    """A file that holds no trade-off."""


@dataclass(frozen=True, slots=True)
class Point:
    """One network of the loop, measured."""

    name: str  # `UNPRUNED`, "step_1", ...
    model: str  # its .keras file, relative to the run's folder
    sha256: str
    parameters: int
    macs: int  # for one image of the network's input size
    file_bytes: int
    ap: float  # on the validation split
    speed: Mapping[str, Any] | None = None  # `network_speed.speed_up_record`; None: not timed

    def times_as_fast(self, runtime: str) -> float | None:
        """Median of how many times as fast as the unpruned network; None: not timed."""
        return (
            None
            if self.speed is None
            else self.speed["runtimes"][runtime]["times_as_fast"]["median"]
        )


@dataclass(frozen=True, slots=True)
class TradeOff:
    """The networks of one loop. The first point is the unpruned one, the others are its steps."""

    network: str  # "bodypose-s"
    split: str  # file name of the annotations that AP is measured on
    settings: Mapping[str, Any]  # of pruning and retraining
    max_ap_drop: float
    points: tuple[Point, ...] = ()
    finished: bool = False

    @property
    def unpruned(self) -> Point:
        """The network that the loop began with."""
        return self.points[0]

    def drop(self, point: Point) -> float:
        """Loss of AP against the unpruned network; negative for a gain."""
        return round(self.unpruned.ap - point.ap, _AP_DIGITS)

    def allows(self, point: Point) -> bool:
        """Whether the drop of AP is within the limit."""
        return self.drop(point) <= self.max_ap_drop

    def macs_share(self, point: Point) -> float:
        """MACs as a share of the unpruned network's."""
        return point.macs / self.unpruned.macs

    @property
    def best(self) -> Point:
        """The point with the fewest MACs within the limit of AP."""
        return min(filter(self.allows, self.points), key=lambda point: (point.macs, -point.ap))

    @property
    def efficient(self) -> tuple[Point, ...]:
        """The Pareto front: no other point has as good an AP for as few MACs."""
        return tuple(
            point
            for point in self.points
            if not any(
                other.ap >= point.ap
                and other.macs <= point.macs
                and (other.ap, other.macs) != (point.ap, point.macs)
                for other in self.points
            )
        )

    @property
    def runtimes(self) -> tuple[str, ...]:
        """The runtimes that any point was timed in."""
        timed = (point.speed["runtimes"] for point in self.points if point.speed is not None)
        return tuple(dict.fromkeys(name for runtimes in timed for name in runtimes))

    def with_point(self, point: Point) -> TradeOff:
        """With a point added, or put in the place of the one of its name."""
        others = {known.name: known for known in self.points}
        return replace(self, points=tuple((others | {point.name: point}).values()))

    def to_json(self) -> dict[str, Any]:
        """The record `bodypose-pareto/1`."""
        raw = asdict(self)
        points = [
            {
                **{"AP" if name == "ap" else name: value for name, value in point.items()},
                "AP_drop": self.drop(self.points[number]),
                "macs_share": round(self.macs_share(self.points[number]), 4),
                "on_the_front": self.points[number] in self.efficient,
            }
            for number, point in enumerate(raw.pop("points"))
        ]
        best = self.best.name if self.points else None
        return {"schema": SCHEMA, **raw, "best": best, "points": points}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TradeOff:
        """The inverse of `to_json`."""
        return cls(
            raw["network"],
            raw["split"],
            raw["settings"],
            raw["max_ap_drop"],
            tuple(
                Point(
                    *(point[name] for name in ("name", "model", "sha256")),
                    *(point[name] for name in ("parameters", "macs", "file_bytes", "AP", "speed")),
                )
                for point in raw["points"]
            ),
            raw["finished"],
        )

    def table(self) -> Iterator[str]:
        """The Markdown table, line by line."""
        timed = self.runtimes
        yield (
            "| network | MACs | remain | parameters | file | AP | drop |"
            + "".join(f" {name}, times as fast | of the MAC ratio |" for name in timed)
            + " |"
        )
        yield "|---" * (8 + 2 * len(timed)) + "|"
        for point in self.points:
            yield " ".join(["|", " | ".join(self._cells(point)), "|"])

    def write_table(self, path: Path) -> None:
        """Write the Markdown table."""
        with atomic_path(path) as temporary:
            temporary.write_text("\n".join(self.table()) + "\n")

    def _cells(self, point: Point) -> Iterator[str]:
        yield point.name
        yield f"{point.macs / 1e9:.2f} G"
        yield f"{self.macs_share(point):.1%}"
        yield f"{point.parameters / 1e6:.2f} M"
        yield f"{point.file_bytes / 1e6:.1f} MB"
        yield f"{point.ap:.4f}"
        yield f"{self.drop(point):+.4f}"
        for runtime in self.runtimes:
            ratio = point.times_as_fast(runtime)
            if ratio is None:
                yield from ("", "")
            else:
                yield f"{ratio:.2f}"
                yield f"{ratio * self.macs_share(point):.2f}"
        yield self._remark(point)

    def _remark(self, point: Point) -> str:
        remarks = ["**best**"] if point == self.best else []
        if not self.allows(point):
            remarks.append(f"drop above {self.max_ap_drop:g}")
        elif point not in self.efficient:
            remarks.append("another is as good for less")
        return ", ".join(remarks)


def read_trade_off(path: Path) -> TradeOff:
    """Read the record of a loop.

    Raises:
        ParetoError: the file holds something else.
    """
    raw = _read(path, SCHEMA)
    return TradeOff.from_json(raw)


def add_to_results(trade_off: TradeOff, path: Path, measurement: Measurement) -> None:
    """Put a loop into a file of results, in the place of the last one of its network.

    `made` is of the loop that was added last; each network has its own settings and machine.

    Raises:
        ParetoError: there is a file, and it does not hold such results.
    """
    known = _read(path, RESULTS_SCHEMA)["networks"] if path.exists() else {}
    networks = dict(sorted((known | {trade_off.network: trade_off.to_json()}).items()))
    models = [
        {"name": f"{name} {point['name']}", "sha256": point["sha256"]}
        for name, network in networks.items()
        for point in network["points"]
    ]
    record = {"schema": RESULTS_SCHEMA, "networks": networks}
    measurement.write(path, record, models=models)


def _read(path: Path, schema: str) -> dict[str, Any]:
    try:
        raw = read_record(path, {"schema": str})
    except RecordError as error:
        raise ParetoError(
            f"{path}: expected JSON of schema {schema}, got something else"
        ) from error
    if raw["schema"] != schema:
        raise ParetoError(f"{path}: expected JSON of schema {schema}, got {raw['schema']}")
    return raw
