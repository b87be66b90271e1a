"""The settings that `tools tune` writes and `tools build-repo --tuning` reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from bodypose_client.scoring.json_file import read_json
from pose_runtime.errors import PoseError


class TuningFileError(PoseError):
    """A file is not one that `tools tune` writes."""


PRECISIONS = {"cpu": ("f32", "bf16"), "cuda": ("f16", "f32")}
# Batch sizes that run on a GPU; other batches are padded to the next size.
_FIXED_BATCHES = (1, 8, 16)


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the server uses its cores and GPU; the defaults are safe on any machine.

    preprocess_instances, network_instances, grouping_instances: processes of each step.
    network_batch: largest number of waiting images that the network computes at once.
    queue_delay_us: time that the network waits for more images when `network_batch` is above 1.
    requests_at_once: most waiting requests that preprocessing and grouping are handed together; 1:
        one by one, so that the first need not wait for the last.
    threads: of each process of the network; 0: an equal share of the cores.
    precision: arithmetic of the network: "f32" or "bf16" on a CPU, "f16" or "f32" on a GPU.
    device: processor of the network, "cpu" or "cuda".
    decodes_on: "cuda": the GPU's own decoder takes the JPEGs that it can, see `card_jpeg`.
    measured_on: the server that `tools tune` measured, for people.
    """

    preprocess_instances: int = 1
    network_instances: int = 1
    grouping_instances: int = 1
    network_batch: int = 1
    queue_delay_us: int = 0
    requests_at_once: int = 1
    threads: int = 0
    precision: str = "f32"
    device: str = "cpu"
    decodes_on: str = "cpu"
    measured_on: str = ""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise TuningFileError(
                    f"{name}: expected an integer from {least} on, got {value!r:.60}"
                )
        if not isinstance(self.device, str) or self.device not in PRECISIONS:
            raise TuningFileError(f"device: expected cpu or cuda, got {self.device!r:.60}")
        known = PRECISIONS[self.device]
        if not isinstance(self.precision, str) or self.precision not in known:
            raise TuningFileError(
                f"precision: expected one of {', '.join(known)} on {self.device}, got"
                f" {self.precision!r:.60}"
            )

        if not isinstance(self.measured_on, str) or len(self.measured_on) > _MOST_WORDS:
            raise TuningFileError(
                f"measured_on: expected a text of at most {_MOST_WORDS} characters, got"
                f" {self.measured_on!r:.60}"
            )
        if self.decodes_on not in ("cpu", self.device):
            raise TuningFileError(
                f"decodes_on: expected {' or '.join(dict.fromkeys(('cpu', self.device)))} where the"
                f" device is {self.device}, got {self.decodes_on!r:.60}"
            )

    @property
    def fixed_batches(self) -> tuple[int, ...]:
        """Batch sizes that are compiled for a GPU."""
        return (*(size for size in _FIXED_BATCHES if size < self.network_batch), self.network_batch)

    def on_gpus(self, count: int) -> Tuning:
        """The settings for that many GPUs, from those for one: processes are dealt to them."""
        if count > 1 and self.device != "cuda":
            raise TuningFileError(
                f"gpus: expected 1 where the device is {self.device}, got {count}"
            )
        return replace(
            self,
            preprocess_instances=count * self.preprocess_instances,
            network_instances=count * self.network_instances,
            grouping_instances=count * self.grouping_instances,
        )

    def to_json(self) -> str:
        """The text of a settings file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def load(cls, path: Path) -> Tuning:
        """The settings in a file of `tools tune`.

        Raises:
            TuningFileError: the file is missing, or is not one of `tools tune`.
        """
        try:
            raw = read_json(path, "the settings of `tools tune`", _MAX_BYTES)
            if not isinstance(raw, dict) or not raw:
                raise TuningFileError("no settings")
            unknown = raw.keys() - {field.name for field in fields(cls)}
            if unknown:
                raise TuningFileError(f"the unknown setting {min(unknown)!r}")
            return cls(**raw)
        except PoseError as error:
            got = str(error).removeprefix(f"{path}: expected the settings of `tools tune`, got ")
            raise TuningFileError(
                f"{path}: expected the settings of `tools tune`, got {got}; run `tools tune -o"
                " NEW.json`"
            ) from error


_MAX_BYTES = 2**16
_MOST_WORDS = 300
_LEAST = {
    "preprocess_instances": 1,
    "network_instances": 1,
    "grouping_instances": 1,
    "network_batch": 1,
    "queue_delay_us": 0,
    "requests_at_once": 1,
    "threads": 0,
}
UNTUNED = Tuning()
# A GPU computes thousands of images a second, a core decodes a few hundred JPEGs.
UNTUNED_CUDA = Tuning(
    preprocess_instances=8, grouping_instances=2, network_batch=32, precision="f16", device="cuda"
)
# Where the GPU decodes, a core reads headers, and decodes what is left to it. A request then takes
# as long to be handed over as to be worked on: under load, several are handed over together.
UNTUNED_CUDA_DECODING = replace(
    UNTUNED_CUDA,
    network_instances=2,
    grouping_instances=4,
    requests_at_once=8,
    decodes_on="cuda",
)
