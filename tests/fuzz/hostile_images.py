"""The hostile images of the tests, the fuzzer's seeds and the isolation benchmark.

`answered()` are unusual but whole pictures: each shows 60 x 40 pixels of grey 200, whatever else is
in it. `refused()` must be answered with an error that has the given words. All take little to make
and together less than 100 MB.
"""

from __future__ import annotations

import base64
import io
import struct
import zlib
from functools import cache

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Refused = tuple[bytes, str]  # the bytes, and words of the error that they deserve

SIZE_HW = 40, 60
GREY = 200
PNG_START = b"\x89PNG\r\n\x1a\n"
# Found by the fuzzer: OpenCV 4.11 once gave pixels for it, and otherwise an error.
FRAME_THAT_DOES_NOT_DECODE = (
    "UklGRroAAABXRUJQVlA4WAoAAAACAAAAOwAAJwAAQU5JTQYAAAAAAAAAAABBTk1GKgAAAAAAAAAAADsAACcAAAAA"
    "AAJWUDhMEQAAAC87wAkAB1DkIhdd/4GI6H8AAEFOTUYqAAAAAAAAAAAAOwAAJwAAAAAAAFZQOEwRAAAALzvACQAH"
    "UK1qVav/gYjofwAAQU5NRioAAAAAAAAAAAA7AAAnAAAAAAAAVlA4TBEAAAAvO8AJAAdQhSpUof+BiOh/AAA="
)
# OpenCV reads arithmetic coding, but does not write it.
ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRofHh0aHBwgJC4nICIs"
    "IxwcKDcpLDAxNDQ0Hyc5PTgyPC4zNDL/2wBDAQkJCQwLDBgNDRgyIRwhMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIy"
    "MjIyMjIyMjIyMjIyMjIyMjIyMjIyMjIyMjL/yQARCAAoADwDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR"
    "AxEAPwDSpIGH4sD/2Q=="
)
FORMATS = ("jpg", "png", "webp", "bmp")


def picture() -> NDArray[np.uint8]:
    return np.full((*SIZE_HW, 3), GREY, np.uint8)


def noise(side: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def encoded(extension: str, pixels: NDArray, *options: int) -> bytes:
    return cv2.imencode(f".{extension}", pixels, options)[1].tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png_of(width: int, height: int, packed: bytes, *before: bytes, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *before, png_chunk(b"IDAT", packed)]
    return PNG_START + b"".join(chunks) + png_chunk(b"IEND", b"")


def png_rows() -> bytes:
    """The picture as a PNG holds it."""
    return zlib.compress((b"\0" + bytes([GREY]) * 3 * SIZE_HW[1]) * SIZE_HW[0])


def png_rows_and_zeros(mib: int) -> bytes:
    """The picture, and so many MiB of zeros behind it, in a kilobyte each."""
    packer = zlib.compressobj(9)
    rows = packer.compress(zlib.decompress(png_rows())) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return rows + zeros * mib + packer.flush()


def bmp_claiming(width: int, height: int, compression: int = 0) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + header + bytes(100)


def webp_claiming(width: int, height: int, frame: bytes = b"", flags: int = 0) -> bytes:
    """An extended WebP: a canvas, and the chunks of another WebP on it."""
    sides = [(side - 1).to_bytes(3, "little") for side in (width, height)]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + b"".join(sides)
    return b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(frame)) + b"WEBP" + canvas + frame


def jpeg_claiming(jpeg: bytes, width: int, height: int) -> bytes:
    frame = next(jpeg.index(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in jpeg)
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def scans_of(jpeg: bytes) -> list[int]:
    """Where each scan of a JPEG starts (without the tables before it)."""
    return [place for place in range(len(jpeg)) if jpeg[place : place + 2] == b"\xff\xda"]


def progressive(pixels: NDArray) -> bytes:
    return encoded("jpg", pixels, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


def with_scans(jpeg: bytes, more: int) -> bytes:
    """A progressive JPEG whose last scan comes `more` times again."""
    return jpeg[:-2] + jpeg[scans_of(jpeg)[-1] : -2] * more + b"\xff\xd9"


def with_standalone_markers(jpeg: bytes, more: int) -> bytes:
    """A progressive JPEG whose last scan comes `more` times again, behind a marker without length.

    Who takes the two bytes behind TEM for a length sees none of these scans.
    """
    again = b"\xff\x01" + jpeg[scans_of(jpeg)[-1] : -2]
    return jpeg[:-2] + again * more + b"\xff\xd9"


def with_exif(jpeg: bytes, tiff: bytes) -> bytes:
    content = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def animation(format_name: str) -> bytes:
    frames = [Image.new("RGB", SIZE_HW[::-1], (grey, grey, grey)) for grey in (GREY, 90, 10)]
    file = io.BytesIO()
    frames[0].save(file, format_name, save_all=True, append_images=frames[1:])
    return file.getvalue()


def cmyk_jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture()).convert("CMYK").save(file, "JPEG", quality=95)
    return file.getvalue()


@cache
def answered() -> dict[str, bytes]:
    jpeg, png = encoded("jpg", picture()), encoded("png", picture())
    return {
        "a JPEG": jpeg,
        "a PNG": png,
        "a WebP": encoded("webp", picture()),
        "a BMP": encoded("bmp", picture()),
        "a PNG of 16 bits": encoded("png", picture().astype(np.uint16) * 257),
        "a PNG with alpha": encoded("png", np.full((*SIZE_HW, 4), (GREY,) * 3 + (9,), np.uint8)),
        "an animated PNG": animation("PNG"),
        "a CMYK JPEG": cmyk_jpeg(),
        "a progressive JPEG": progressive(picture()),
        "a PNG with text that unpacks to 8 MB, 50 times": png[:33]
        + png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(7_900_000))) * 50
        + png[33:],
        "a PNG with the wrong sum of a comment": png[:33] + b"\0\0\0\1tEXta\0\0\0\0" + png[33:],
        "a JPEG with a ZIP behind it": jpeg + b"PK\x05\x06" + bytes(18),
        "a JPEG with HTML in a comment": jpeg[:2]
        + b"\xff\xfe\0\x1a<script>alert(1)</script>"[:28]
        + jpeg[2:],
        "a JPEG with a PDF in it": jpeg[:2] + b"\xff\xfe\0\x12%PDF-1.7\n%%EOF\n\n" + jpeg[2:],
        "a JPEG with broken EXIF": with_exif(jpeg, b"II*\0\xff\xff\xff\xff"),
        "a JPEG with EXIF that points to itself": with_exif(jpeg, b"MM\0*\0\0\0\0\xff\xff"),
        "a JPEG with arithmetic coding": base64.b64decode(ARITHMETIC),
        "a JPEG with a marker without length": with_standalone_markers(progressive(picture()), 2),
        "a JPEG with bytes between its segments": jpeg[:-2] + b"abc" + jpeg[-2:],
        "a JPEG with fill bytes": jpeg[:2] + b"\xff" * 9 + jpeg[2:],
        "a JPEG with scans behind its end": jpeg + b"\xff\xda" * 100_000,
        "a BMP from its bottom": bmp_upside_down(),
    }


def bmp_upside_down() -> bytes:
    bmp = encoded("bmp", picture())
    return bmp[:22] + struct.pack("<i", -SIZE_HW[0]) + bmp[26:]


@cache
def refused() -> dict[str, Refused]:
    jpeg, png = encoded("jpg", noise()), encoded("png", noise())
    many = progressive(np.full((3000, 3000, 3), 90, np.uint8))
    cases = {
        "nothing": (b"", "got no bytes"),
        "zeros": (bytes(1000), "expected JPEG, PNG, WebP or BMP bytes"),
        "64 MB of noise": (bytes(noise(256)) * 342, "(max_bytes)"),
        "16 MB of noise": (bytes(noise(256))[:196608] * 85, "expected JPEG, PNG, WebP or BMP"),
        "a text": (b"Dear server,\nno picture today.\n", "expected JPEG, PNG, WebP or BMP"),
        "an animated GIF": (animation("GIF"), "expected JPEG, PNG, WebP or BMP"),
        "an animated WebP": (animation("WEBP"), "got animated WebP"),
        "an animated WebP without frames": (webp_claiming(60, 40, flags=2), "got animated WebP"),
        "an animated WebP whose frame is damaged": (
            base64.b64decode(FRAME_THAT_DOES_NOT_DECODE),
            "got animated WebP",
        ),
        "base64 of nothing": (b"  \n ", "expected JPEG, PNG, WebP or BMP"),
        "a JPEG's first bytes": (b"\xff\xd8\xff", "damaged header"),
        "a PNG's first bytes": (PNG_START, "damaged header"),
        "a PNG that begins with its end": (
            PNG_START + png_chunk(b"IEND", b"") + b"\0\0\0\xc8" * 4,  # found by the fuzzer
            "damaged header",
        ),
        "a BMP's first bytes": (b"BM", "damaged header"),
        "a WebP's first bytes": (b"RIFF\0\0\0\0WEBP", "damaged header"),
        "a WebP that says JPEG": (b"\xff\xd8\xff" + encoded("webp", noise()), "damaged header"),
        "a PNG that says BMP": (b"BM" + png, "image: expected"),
        "a PNG bomb by pixels": (png_of(20_000, 20_000, png_rows()), "(max_pixels)"),
        "a BMP bomb by pixels": (bmp_claiming(20_000, -20_000), "(max_pixels)"),
        "a WebP bomb by pixels": (webp_claiming(16_000, 16_000), "(max_pixels)"),
        "a JPEG bomb by pixels": (jpeg_claiming(jpeg, 65_500, 65_500), "(max_pixels)"),
        "a PNG of 0 pixels": (png_of(0, 40, png_rows()), "at least 1 x 1 pixels"),
        "a BMP of less than 0 pixels": (bmp_claiming(-60, 40), "at least 1 x 1 pixels"),
        "a PNG 65535 wide": (png_of(65_535, 65_535, png_rows()), "(max_pixels)"),
        "a PNG 600 high that has 40 rows": (png_of(60, 600, png_rows()), "a whole PNG"),
        "a PNG that unpacks to 1 GB": (
            png_of(60, 40, png_rows_and_zeros(1024)),
            "unpack to at most",
        ),
        "a PNG with a chunk of 4 GB": (
            png[:33] + b"\xf0\0\0\0" + png[37:],
            "bytes that end too early",
        ),
        "a PNG of 100,000 chunks": (
            png[:33] + png_chunk(b"IDAT", b"") * 100_000 + png[33:],
            "more than 20000 chunks",
        ),
        "a JPEG of a million segments": (
            jpeg[:2] + b"\xff\xe0\0\2" * 1_000_000 + jpeg[2:],
            "more than 20000 segments",
        ),
        "a JPEG of a thousand scans": (with_scans(many, 1000), "(max_decode_ms)"),
        "a JPEG of 400 scans behind markers without length": (
            with_standalone_markers(progressive(np.full((3000, 3000, 3), 90, np.uint8)), 400),
            "(max_decode_ms)",
        ),
        "16 MB of base64 in pairs": (b"AA " * 5_500_000, "16500000 bytes starting with b'AA AA"),
        "16 MB of base64 without an image in it": (b"A" * 16_000_000, "starting with b'AAAAAAAA'"),
        "junk that is base64, too": (b"hello you there", "15 bytes starting with b'hello yo'"),
        "a progressive JPEG without its last scans": (
            progressive(noise())[: scans_of(progressive(noise()))[3]],
            "a whole JPEG",
        ),
        "a JPEG that ends in its header": (jpeg[:100], "a whole JPEG"),
        "a large JPEG with the data of a small one": (
            jpeg_claiming(jpeg, 6000, 6000),
            "a whole JPEG",
        ),
        "a WebP whose canvas is smaller": (
            webp_claiming(60, 40, encoded("webp", noise())[12:]),
            "a whole WebP",
        ),
        "a BMP without its rows": (bmp_claiming(600, 400), "a whole BMP"),
        "a BMP of unknown compression": (bmp_claiming(60, 40, compression=77), "a whole BMP"),
    }
    for extension in FORMATS:
        whole = encoded(extension, noise())
        for percent in range(5, 100, 5):
            cut = whole[: len(whole) * percent // 100]
            cases[f"{percent} % of a {extension}"] = (cut, "image: expected a whole ")
    return cases


@cache
def long_sides() -> dict[str, bytes]:
    """Whole pictures with a side near 65,535 pixels, the most a JPEG can have."""
    return {
        f"a {extension} of {width} x {height}": data
        for height, width in ((1, 65_500), (65_500, 1), (65_500, 60))
        for extension, data in {
            "jpg": bytes(simplejpeg.encode_jpeg(np.full((height, width, 3), GREY, np.uint8))),
            "png": encoded("png", np.full((height, width, 3), GREY, np.uint8)),
        }.items()
    }


def flipped(data: bytes, seed: int, bits: int = 8) -> bytes:
    """`data` with some of its bits flipped."""
    array = np.frombuffer(data, np.uint8).copy()
    random = np.random.default_rng(seed)
    array[random.integers(0, len(array), bits)] ^= np.uint8(1) << random.integers(
        0, 8, bits, dtype=np.uint8
    )
    return array.tobytes()
