"""What a card's decoder gives becomes the network's pixels as a CPU makes them, within 1 of 255."""

import contextlib
import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pose_runtime.card_jpeg import CardJpeg, unpack
from pose_runtime.card_pixels import CardPixels
from pose_runtime.decode_process import BoundedDecoder
from pose_runtime.errors import BadImages, DamagedImage, ImageError
from pose_runtime.images import network_pixels
from pose_runtime.letterbox_in_torch import letterbox
from pose_runtime.spec import PipelineSpec
from tests.coco import COCO, MISSING_COCO
from tests.fuzz.hostile_images import answered, refused
from tests.planes import decode

SPEC = PipelineSpec(network_hw=(96, 128))


def photo_like(height: int, width: int) -> np.ndarray:
    """Waves of colours with edges and saturated places."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 150 * np.sin(y / 7 + c) * np.cos(x / (5 + 2 * c)) for c in range(3)]
    picture = np.stack(waves, axis=-1)
    picture[height // 3 : height // 2, width // 4 : width // 3] = (255, 0, 40)
    return np.ascontiguousarray(picture.clip(0, 255).astype(np.uint8))


def jpeg(height=120, width=150, subsampling="420", colours="RGB") -> bytes:
    picture = photo_like(height, width)
    if colours == "GRAY":
        picture = picture[..., :1]
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(picture), colorspace=colours, colorsubsampling=subsampling
    )


def turned(data: bytes, orientation: int) -> bytes:
    image = Image.open(io.BytesIO(data))
    exif = Image.Exif()
    exif[0x0112] = orientation
    made = io.BytesIO()
    image.save(made, "JPEG", exif=exif, quality=90, subsampling=0)
    return made.getvalue()


def png() -> bytes:
    made = io.BytesIO()
    Image.fromarray(photo_like(60, 80)).save(made, "PNG")
    return made.getvalue()


@pytest.fixture(scope="module")
def decoder():
    decoder = BoundedDecoder(SPEC.network_hw, SPEC.limits)
    yield decoder
    decoder.close()


def sent(decoder, data: bytes):
    packed, _ = decoder.packed_for_card(data)
    return unpack(packed, SPEC.network_hw, SPEC.limits)


def card(batch: int, taken=decode, on_cpu=None) -> CardPixels:
    return CardPixels(SPEC, batch, "cpu", taken, on_cpu)


def differences(memory: CardPixels, images: list[bytes]) -> list[int]:
    made = letterbox(memory.planes, memory.facts, SPEC.network_hw).numpy()
    wanted = [network_pixels(data, SPEC.network_hw, SPEC.limits)[0] for data in images]
    return [
        int(np.abs(each.astype(int) - want).max()) for each, want in zip(made, wanted, strict=False)
    ]


def test_every_kind_of_jpeg_in_one_batch_is_as_on_a_cpu(decoder):
    images = [
        jpeg(),
        jpeg(subsampling="444"),
        jpeg(121, 151),  # halves of pixels at the border
        jpeg(colours="GRAY", subsampling="Gray"),
        jpeg(64, 90),  # made larger
        *(turned(jpeg(100, 130), orientation) for orientation in range(1, 9)),
    ]
    memory = card(len(images))

    loaded = [sent(decoder, data) for data in images]
    memory.load(loaded)

    assert all(isinstance(image, CardJpeg) for image in loaded)
    assert max(differences(memory, images)) <= 1


def test_what_a_cpu_decodes_goes_into_the_same_batch_unchanged(decoder):
    images = [png(), jpeg(), jpeg(900, 900)]
    memory = card(3)

    memory.load([sent(decoder, data) for data in images])

    first, _, last = differences(memory, images)
    assert (first, last) == (0, 0)


def test_a_smaller_batch_behind_a_larger_one_leaves_no_trace(decoder):
    memory = card(2)
    memory.load([sent(decoder, jpeg()), sent(decoder, jpeg(90, 60))])

    memory.load([sent(decoder, jpeg(80, 100))])

    assert differences(memory, [jpeg(80, 100)]) == [pytest.approx(0, abs=1)]
    assert not memory.facts[1].any()


def test_what_the_card_refuses_is_decoded_by_a_cpu(decoder):
    memory = card(1, lambda jpegs, places: [False], lambda data: decoder.network_pixels(data)[0])

    memory.load([sent(decoder, jpeg())])

    assert differences(memory, [jpeg()]) == [0]


def test_what_nobody_decodes_is_named_by_its_place(decoder):
    def refuse(data):
        raise DamagedImage("a whole JPEG", "half of one")

    memory = card(3, lambda jpegs, places: [True, False, True], refuse)

    with pytest.raises(BadImages) as caught:
        memory.load([sent(decoder, jpeg())] * 3)

    assert list(caught.value.errors) == [1]


def test_hostile_bytes_are_refused_or_go_on_as_an_image(decoder):
    for data in answered().values():
        assert sent(decoder, data) is not None
    for data, _ in refused().values():
        # What only decoding tells is found out behind this step, for JPEGs alone.
        with contextlib.suppress(ImageError):
            assert isinstance(sent(decoder, data), CardJpeg)


@pytest.mark.coco
def test_photos_of_coco_are_as_on_a_cpu():
    files = sorted((COCO / "val").glob("*.jpg"))[:40:4]
    if not files:
        pytest.skip(MISSING_COCO)
    spec = PipelineSpec()
    decoder = BoundedDecoder(spec.network_hw, spec.limits)
    memory = CardPixels(spec, len(files), "cpu", decode, None)

    memory.load(
        [
            unpack(decoder.packed_for_card(file.read_bytes())[0], spec.network_hw, spec.limits)
            for file in files
        ]
    )
    decoder.close()

    made = letterbox(memory.planes, memory.facts, spec.network_hw).numpy()
    for pixels, file in zip(made, files, strict=True):
        wanted, _ = network_pixels(file.read_bytes(), spec.network_hw, spec.limits)
        assert np.abs(pixels.astype(int) - wanted).max() <= 1, file.name
