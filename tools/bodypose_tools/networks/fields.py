"""A network's outputs by name, in the one order that all networks share; strides of its sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

STRIDE: Final = 8  # network pixels per cell of a part affinity field
# Architecture -> what height and width of its input are multiples of: its deepest stride.
SIDE_MULTIPLE: Final[Mapping[str, int]] = {"bodypose-s": 32, "bodypose-vgg19": STRIDE}


@dataclass(frozen=True, slots=True)
class Fields:
    """A network's outputs, symbolic or real.

    heatmaps: one (B, h, w, J + 1) per stage, the background last.
    affinity: one (B, h', w', 2L) per stage, x and y of each limb's part affinity field.
    centre:   (B, h, w, 1), scores of person centres; None: the network predicts no centres.
    offsets:  (B, h, w, 2J), x and y from a person's centre to each joint, in cells of h x w.
    """

    heatmaps: tuple[Any, ...]
    affinity: tuple[Any, ...]
    centre: Any | None = None
    offsets: Any | None = None

    @classmethod
    def of(cls, outputs: Sequence[Any]) -> Fields:
        """From heat_1..heat_T, paf_1..paf_T and, where there are any, centre, offsets."""
        has_centres = outputs[-2].shape[-1] == 1  # nothing but `centre` has one channel
        stages = len(outputs) // 2 - has_centres
        return cls(
            tuple(outputs[:stages]),
            tuple(outputs[stages : 2 * stages]),
            *(outputs[-2:] if has_centres else ()),
        )

    def last_stage(self) -> dict[str, Any]:
        """The last stage's outputs by their names in graphs without decoding layers."""
        last = {"heatmaps": self.heatmaps[-1], "affinity": self.affinity[-1]}
        if self.centre is not None:
            last |= {"centre": self.centre, "offsets": self.offsets}
        return last
