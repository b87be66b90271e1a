"""The GPU's own JPEG decoder: the CPU's pixels, and hostile files that end nothing."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from pose_runtime.card_jpeg import CardJpeg, for_card
from pose_runtime.card_pixels import CardPixels
from pose_runtime.errors import BadImages, ImageError
from pose_runtime.image_headers import checked_image
from pose_runtime.images import network_pixels
from pose_runtime.letterbox_in_torch import letterbox
from pose_runtime.spec import PipelineSpec
from tests.coco import COCO, MISSING_COCO
from tests.fuzz.hostile_images import answered, refused

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("needs an NVIDIA GPU: run on a machine with one", allow_module_level=True)

SPEC = PipelineSpec()
BATCH = 16


class Card:
    """The decoder as the network's step has it, without a network."""

    def __init__(self) -> None:
        from pose_runtime.nvjpeg import HardwareDecoder

        self.decoder = HardwareDecoder(torch.version.cuda)
        self.stream = torch.cuda.Stream()
        self.refused = 0
        self.memory = CardPixels(SPEC, BATCH, "cuda", self.decode, self.on_cpu)

    def decode(self, jpegs, places):
        taken = self.decoder.decode(jpegs, places, self.stream)
        self.refused += taken.count(False)
        return taken

    @staticmethod
    def on_cpu(jpeg: bytes) -> np.ndarray:
        return network_pixels(jpeg, SPEC.network_hw, SPEC.limits)[0]

    def pixels(self, jpegs: list[CardJpeg]) -> np.ndarray:
        with torch.inference_mode(), torch.cuda.stream(self.stream):
            self.memory.load(jpegs)
            made = letterbox(self.memory.planes, self.memory.facts, SPEC.network_hw)
            self.stream.synchronize()
            return made.cpu().numpy()


@pytest.fixture(scope="module")
def card() -> Card:
    return Card()


def picture(height=300, width=400, subsampling="420", colours="RGB") -> bytes:
    y, x = np.mgrid[:height, :width]
    waves = [128 + 150 * np.sin(y / 9 + c) * np.cos(x / (7 + 2 * c)) for c in range(3)]
    pixels = np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8)
    if colours == "GRAY":
        pixels = pixels[..., :1]
    pixels = np.ascontiguousarray(pixels)
    return simplejpeg.encode_jpeg(pixels, colorspace=colours, colorsubsampling=subsampling)


def sent(data: bytes) -> CardJpeg | None:
    return for_card(checked_image(data, SPEC.limits), SPEC.network_hw)


def difference(made: np.ndarray, data: bytes) -> int:
    return int(np.abs(made.astype(int) - Card.on_cpu(data)).max())


def keep(name: str, record: dict) -> None:
    if folder := os.environ.get("OUT"):
        (Path(folder) / f"{name}.json").write_text(json.dumps(record, indent=1))


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "Gray"])
@pytest.mark.parametrize("side", [300, 301])
def test_every_sampling_is_as_on_a_cpu(card, subsampling, side):
    data = picture(side, side + 77, subsampling, "GRAY" if subsampling == "Gray" else "RGB")

    made = card.pixels([sent(data)])

    assert difference(made[0], data) <= 1
    assert card.refused == 0


def test_unusual_images_are_as_on_a_cpu(card):
    images = {name: data for name, data in answered().items() if sent(data)}

    for name, data in images.items():
        assert difference(card.pixels([sent(data)])[0], data) <= 1, name


def test_refused_images_leave_the_card_usable(card):
    good = picture()
    outcomes = {}
    for data, words in refused().values():
        try:
            jpeg = sent(data)
        except ImageError:
            continue
        if jpeg is None:
            continue
        bad = [1]
        try:
            card.pixels([sent(good), jpeg, sent(good)])
            outcomes[words] = "decoded by the card"
        except BadImages as error:
            bad = list(error.errors)
            outcomes[words] = "refused"
        assert bad == [1]
        assert difference(card.pixels([sent(good)])[0], good) <= 1
    keep("hostile", outcomes)


def mutated(rng: np.random.Generator, data: bytes, where: str) -> bytes:
    changed = bytearray(data)
    scan = data.index(b"\xff\xda")
    first, last = (scan + 14, len(data) - 2) if where == "scan" else (2, scan + 14)
    for _ in range(int(rng.integers(1, 5))):
        changed[int(rng.integers(first, last))] = int(rng.integers(0, 256))
    if rng.random() < 0.1:
        cut = int(rng.integers(scan + 20, len(data) - 2))
        changed = changed[:cut] + b"\xff\xd9"
    return bytes(changed)


@pytest.mark.parametrize("where", ["scan", "header"])
@pytest.mark.parametrize("of", ["one picture", "photos"])
def test_damaged_jpegs_reach_no_neighbour(card, of, where):
    rng = np.random.default_rng(0)
    photos = [picture()]
    if of == "photos":
        files = sorted((COCO / "val").glob("*.jpg"))[:20]
        photos = [data for data in (file.read_bytes() for file in files) if sent(data)]
        if not photos:
            pytest.skip(MISSING_COCO)
    counts = dict.fromkeys(
        ("made", "left to the CPU", "refused by both", "as the CPU", "otherwise than the CPU"), 0
    )
    counts["taken although the CPU refuses"] = 0
    for turn in range(150):
        good = photos[turn % len(photos)]
        batch, sources = [sent(good)], [good]
        while len(batch) < BATCH - 1:
            data = mutated(rng, photos[int(rng.integers(len(photos)))], where)
            counts["made"] += 1
            try:
                jpeg = sent(data)
            except ImageError:
                continue
            if jpeg is None:
                counts["left to the CPU"] += 1
                continue
            batch.append(jpeg)
            sources.append(data)
        batch.append(sent(good))
        sources.append(good)
        bad = {}
        try:
            made = card.pixels(batch)
        except BadImages as error:
            bad = error.errors
        assert not {0, len(batch) - 1} & set(bad)
        if bad:
            counts["refused by both"] += len(bad)
            kept = [at for at in range(len(batch)) if at not in bad]
            batch, sources = [batch[at] for at in kept], [sources[at] for at in kept]
            made = card.pixels(batch)
        assert difference(made[0], good) <= 1
        assert difference(made[len(batch) - 1], good) <= 1
        for pixels, data in zip(made[1 : len(batch) - 1], sources[1:-1], strict=True):
            try:
                same = difference(pixels, data) <= 1
                counts["as the CPU" if same else "otherwise than the CPU"] += 1
            except ImageError:
                counts["taken although the CPU refuses"] += 1
        keep(f"damaged-{where}-{of.split()[-1]}", counts)
