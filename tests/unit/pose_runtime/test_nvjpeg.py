"""Without a card, or without the library, the decoder in hardware says in one line what to do."""

import _ctypes
from types import SimpleNamespace

import pytest

from pose_runtime import nvjpeg
from pose_runtime.card_jpeg import CardJpeg
from pose_runtime.nvjpeg import HardwareDecoder, JpegHardwareError, Plane


def test_a_missing_library_names_the_line_that_installs_it():
    with pytest.raises(JpegHardwareError, match=r"libnvjpeg\.so\.1: .*|got none; run") as error:
        HardwareDecoder("1.0")

    assert "embedded-cuda" in str(error.value)


def test_no_card_with_a_decoder_is_one_line():
    pytest.importorskip("nvidia.cu13", reason="needs nvidia-nvjpeg: pip install nvidia-nvjpeg")

    with pytest.raises(JpegHardwareError, match="expected a GPU with a JPEG decoder") as error:
        HardwareDecoder("13.0")

    assert "\n" not in str(error.value)


class Library:
    """What nvJPEG would say: a table of images, and batches that it refuses."""

    def __init__(self, **said):
        self.said = {"create": 0, "state": 0, "status": 0, "components": 3, "sampling": 2} | said
        self.batches = []
        self.refuses = said.get("refuses", ())

    def nvjpegCreateEx(self, backend, *rest):  # noqa: N802
        assert (backend, *rest[:3]) == (3, None, None, 0)
        rest[3]._obj.value = 11
        return self.said["create"]

    def nvjpegJpegStateCreate(self, handle, state):  # noqa: N802
        assert handle.value == 11
        state._obj.value = 22
        return self.said["state"]

    def nvjpegGetImageInfo(self, handle, data, length, components, sampling, widths, heights):  # noqa: N802
        assert handle.value == 11
        components._obj.value = self.said["components"]
        sampling._obj.value = self.said["sampling"]
        widths[0], heights[0] = (length.value, data and 40)
        return self.said["status"]

    def nvjpegDecodeBatchedInitialize(self, handle, state, count, threads, kind):  # noqa: N802
        assert (handle.value, state.value, threads, kind) == (11, 22, 1, 1)
        self.count = count
        return self.said.get("initialize", 0)

    def nvjpegDecodeBatched(self, handle, state, data, lengths, images, stream):  # noqa: N802
        assert (handle.value, state.value, len(data), stream.value) == (11, 22, self.count, 33)
        places = [
            [(image.channel[at], image.pitch[at]) for at in range(4) if image.channel[at]]
            for image in images
        ]
        self.batches.append((list(lengths), places))
        return 7 if set(lengths) & set(self.refuses) else 0


class Stream:
    """A stream that is still at work with a call until it is waited for."""

    cuda_stream = 33

    def __init__(self, library=None):
        self.library = library

    def synchronize(self):
        self.library.batches.append("waited for")


def decoder_of(monkeypatch, **said):
    library = Library(**said)
    monkeypatch.setattr(nvjpeg, "_library", lambda release: library if release == "13" else None)
    return HardwareDecoder("13.0"), library


def jpeg_of(size, sampling=(2, 2)):
    """Its width is its number of bytes: so says the library."""
    return CardJpeg(bytes(size), (40, size), 1, sampling)


def places_of(start, planes=3):
    return [Plane(start + number, 64 * (number + 1)) for number in range(planes)]


@pytest.mark.parametrize("which", ["create", "state"])
def test_a_decoder_that_does_not_open_says_its_status(monkeypatch, which):
    with pytest.raises(JpegHardwareError, match="got status 5 of nvJPEG; run `tools build-repo`"):
        decoder_of(monkeypatch, **{which: 5})


def test_a_batch_is_decoded_at_once_into_its_places(monkeypatch):
    decoder, library = decoder_of(monkeypatch)

    taken = decoder.decode([jpeg_of(50), jpeg_of(60)], [places_of(100), places_of(200)], Stream())

    assert taken == [True, True]
    assert library.batches == [
        ([50, 60], [[(100, 64), (101, 128), (102, 192)], [(200, 64), (201, 128), (202, 192)]])
    ]


def test_of_a_batch_that_is_refused_each_image_is_tried_alone(monkeypatch):
    decoder, library = decoder_of(monkeypatch, refuses=(60,))

    places = [places_of(100), places_of(200)]
    taken = decoder.decode([jpeg_of(50), jpeg_of(60)], places, Stream(library))

    assert taken == [True, False]
    calls = [lengths for lengths, _ in library.batches[::2]]
    assert calls == [[50, 60], [50], [60]]
    assert library.batches[1::2] == 3 * ["waited for"]
    broken, library = decoder_of(monkeypatch, initialize=3)
    assert broken.decode([jpeg_of(50)], [places_of(100)], Stream(library)) == [False]
    assert set(library.batches) == {"waited for"}


@pytest.mark.parametrize(
    ("said", "sampling", "is_taken"),
    [
        ({"sampling": 0}, (1, 1), True),
        ({"sampling": 1}, (1, 2), True),
        ({"sampling": 2}, (2, 2), True),
        ({"sampling": 6, "components": 1}, (0, 0), True),
        ({"sampling": 6, "components": 3}, (0, 0), False),
        ({"sampling": 2, "components": 1}, (2, 2), False),
        ({"sampling": 3}, (2, 2), False),
        ({"sampling": 1}, (2, 2), False),
        ({"status": 4}, (2, 2), False),
    ],
)
def test_only_what_the_library_reads_as_told_is_decoded(monkeypatch, said, sampling, is_taken):
    decoder, library = decoder_of(monkeypatch, **said)

    assert decoder.decode([jpeg_of(50, sampling)], [places_of(1)], Stream(library)) == [is_taken]
    waits = library.batches.count("waited for")
    assert (len(library.batches) - waits, waits) == (is_taken, not is_taken)


def test_an_image_of_another_size_than_told_is_left_out_of_its_batch(monkeypatch):
    decoder, library = decoder_of(monkeypatch)
    tall = CardJpeg(bytes(50), (41, 50), 1, (2, 2))
    wide = CardJpeg(bytes(50), (40, 51), 1, (2, 2))

    taken = decoder.decode([tall, jpeg_of(60), wide], [places_of(1)] * 3, Stream(library))

    assert taken == [False, True, False]
    (lengths, _), then = library.batches
    assert (lengths, then) == ([60], "waited for")


def test_a_broken_library_is_passed_over(monkeypatch, tmp_path):
    names = [tmp_path / folder / "cu13/lib/libnvjpeg.so.99" for folder in ("broken", "whole")]
    for name in names:
        name.parent.mkdir(parents=True)
    names[0].write_bytes(b"no library")
    names[1].symlink_to(_ctypes.__file__)
    found = SimpleNamespace(submodule_search_locations=[tmp_path / "broken", tmp_path / "whole"])
    monkeypatch.setattr(nvjpeg.importlib.util, "find_spec", lambda name: found)
    assert nvjpeg._library("99")._name == str(names[1])
