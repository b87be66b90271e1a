"""The example pictures: who stands where in three scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .backdrops import hall, park
from .body import Body, Hair, Look
from .picture import Backdrop, Camera, Picture, draw_people
from .stances import STANCES

_SIZE = (720, 480)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """People in front of a backdrop; `seed` is the texture's."""

    people: Sequence[Body]
    camera: Camera
    backdrop: Backdrop
    seed: int

    def draw(self, fineness: int = 2) -> Picture:
        return draw_people(
            self.people, self.camera, self.backdrop, seed=self.seed, fineness=fineness
        )


def _friends() -> Scene:
    people = [
        Body((-1.4, -5.9), STANCES["waving"], Look(), 15, 1.78),
        Body(
            (-0.45, -6.4),
            STANCES["hands on hips"],
            Look(
                skin=(150, 98, 66), shirt=(245, 240, 230), stripes=(40, 70, 120), sleeve=1.8,
                trousers=(60, 60, 66), hair=(30, 22, 18), hairstyle=Hair.LONG,
            ),
            -20,
            1.68,
        ),
        Body(
            (0.5, -6.1),
            STANCES["jumping"],
            Look(
                skin=(235, 190, 160), shirt=(240, 180, 50), trousers=(70, 110, 80), trouser=0.75,
                hair=(120, 80, 40),
            ),
            0,
            1.7,
        ),
        Body(
            (1.42, -5.7),
            STANCES["walking"],
            Look(
                skin=(110, 70, 48), shirt=(60, 120, 180), trousers=(120, 100, 80), sleeve=1.9,
                hair=(20, 18, 18), bearded=True,
            ),
            -25,
            1.82,
        ),
    ]  # fmt: skip
    return Scene(people, Camera(_SIZE, 900, 1.35, -0.05), park, 1)


def _yoga() -> Scene:
    people = [
        Body(
            (-1.4, -5.3),
            STANCES["tree"],
            Look(
                skin=(228, 180, 150), shirt=(120, 70, 140), trousers=(40, 40, 60), sleeve=0.2,
                hair=(150, 100, 50), hairstyle=Hair.BUN,
            ),
            10,
            1.7,
        ),
        Body(
            (0.1, -5.5),
            STANCES["warrior"],
            Look(
                skin=(178, 120, 84), shirt=(230, 230, 225), trousers=(40, 90, 100), trouser=0.8,
                hair=(25, 20, 20),
            ),
            -5,
            1.76,
        ),
        Body(
            (1.45, -5.3),
            STANCES["bending sideways"],
            Look(
                skin=(120, 78, 54), shirt=(220, 110, 60), trousers=(70, 70, 80), sleeve=0.4,
                hair=(20, 16, 16), hairstyle=Hair.BUN,
            ),
            0,
            1.72,
        ),
    ]  # fmt: skip
    return Scene(people, Camera(_SIZE, 860, 1.3, -0.06), hall, 2)


def _run() -> Scene:
    shirts = ((214, 66, 52), (60, 120, 180), (240, 180, 50), (80, 150, 90), (230, 230, 225),
              (150, 80, 150))  # fmt: skip
    skins = ((224, 172, 140), (110, 70, 48), (235, 190, 160), (178, 120, 84), (150, 98, 66),
             (228, 180, 150))  # fmt: skip
    hair = (Hair.SHORT, Hair.SHORT, Hair.BUN, Hair.LONG, Hair.SHORT, Hair.LONG)
    stances = ("running", "running", "cheering", "running", "pointing", "waving")
    places = ((-1.5, -6.6), (-0.3, -5.8), (-2.6, -9.5), (0.9, -7.0), (0.45, -9.6), (2.0, -6.6))
    people = [
        Body(
            places[number],
            STANCES[stances[number]],
            Look(
                skin=skins[number], shirt=shirts[number], trousers=(45, 50 + 8 * number, 70),
                trouser=0.7 if number % 2 else 1.9, bearded=number == 4, hairstyle=hair[number],
            ),
            (20, 5, 0, -15, -20, 10)[number],
            (1.75, 1.8, 1.68, 1.7, 1.85, 1.66)[number],
        )
        for number in range(6)
    ]  # fmt: skip
    return Scene(people, Camera(_SIZE, 880, 1.6, -0.09), park, 3)


EXAMPLES: Final[Mapping[str, Scene]] = {"friends": _friends(), "yoga": _yoga(), "run": _run()}
