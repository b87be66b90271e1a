"""Every kind of input gives the same images, whatever the size of a part."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="needs pyarrow: run pip install -e '.[bulk]'")
import pyarrow as pa
import pyarrow.parquet as pq

from bodypose_client.errors import FileError
from bodypose_tools.bulk.settings import BulkError
from bodypose_tools.bulk.sources import Paths, parts_of
from bodypose_tools.runtimes.people import IMAGE_ERRORS
from pose_runtime.paths import ForeignPath
from tests.bulk_inputs import as_folder, as_parquet, as_tar

IMAGES = {f"{number:02d}.jpg": bytes([number]) * 700 for number in range(23)}
CONTENTS = list(IMAGES.values())


def contents(source: Path, folder: Path, size: int = 7, **options: str) -> list[bytes]:
    parts = parts_of([source], folder, size, **options)
    assert [part.number for part in parts] == list(range(len(parts)))
    return [image.read() for part in parts for image in part.images()]


def folder_of(tmp_path: Path) -> Path:
    return as_folder(tmp_path / "in", IMAGES)


def list_of(tmp_path: Path) -> Path:
    folder = folder_of(tmp_path)
    file = tmp_path / "list.txt"
    file.write_text("".join(f"in/{name}\r\n" for name in IMAGES) + "\n")
    assert folder.is_dir()
    return file


def absolute_list_of(tmp_path: Path) -> Path:
    folder = folder_of(tmp_path)
    file = tmp_path / "list.json"
    file.write_text(json.dumps([str(folder / name) for name in IMAGES]))
    return file


def tar_of(tmp_path: Path) -> Path:
    return as_tar(tmp_path / "shard.tar", IMAGES)


def bytes_of(tmp_path: Path) -> Path:
    return as_parquet(tmp_path / "bytes.parquet", {"id": list(IMAGES), "jpg": CONTENTS})


def structs_of(tmp_path: Path) -> Path:
    rows = [{"bytes": data, "path": name} for name, data in IMAGES.items()]
    return as_parquet(tmp_path / "hugging_face.parquet", {"image": rows})


def paths_of(tmp_path: Path) -> Path:
    folder_of(tmp_path)
    return as_parquet(tmp_path / "paths.parquet", {"path": [f"in/{name}" for name in IMAGES]})


KINDS = [folder_of, list_of, absolute_list_of, tar_of, bytes_of, structs_of, paths_of]


@pytest.mark.parametrize("size", [1, 7, 23, 100])
@pytest.mark.parametrize("make", KINDS)
def test_every_image_comes_once_and_in_order(make, size, tmp_path):
    assert contents(make(tmp_path), tmp_path / "out", size) == CONTENTS


@pytest.mark.parametrize("make", KINDS)
def test_a_part_can_be_read_alone(make, tmp_path):
    parts = parts_of([make(tmp_path)], tmp_path / "out", 7)
    assert [image.read() for image in parts[2].images()] == CONTENTS[14:21]
    assert len({part.sha256 for part in parts}) == len(parts)


@pytest.mark.parametrize("make", KINDS)
def test_the_same_input_gives_the_same_parts(make, tmp_path):
    source = make(tmp_path)
    assert parts_of([source], tmp_path / "out", 7) == parts_of([source], tmp_path / "out", 7)


def test_rows_are_named_by_their_column_or_their_number(tmp_path):
    named = parts_of([bytes_of(tmp_path)], tmp_path / "out", 7)[1]
    assert [image.name for image in named.images()] == list(IMAGES)[7:14]
    bare = as_parquet(tmp_path / "bare.parquet", {"photo": CONTENTS})
    part = parts_of([bare], tmp_path / "out", 20, column="photo")[1]
    assert [image.name for image in part.images()] == [f"{bare}#{row}" for row in (20, 21, 22)]


def test_tars_and_parquet_files_of_a_folder_follow_its_images(tmp_path):
    folder = as_folder(tmp_path / "in", {"a/1.png": b"1", "a/notes.md": b"-", "z.jpg": b"2"})
    as_tar(folder / "b.tar", {"3.jpg": b"3"})
    as_parquet(folder / "c.parquet", {"bytes": [b"4"]})
    (folder / "._z.jpg").write_bytes(b"of macOS")
    assert contents(folder, tmp_path / "out", 1) == [b"2", b"1", b"3", b"4"]


def test_any_file_name_is_read_and_shown(tmp_path):
    names = [b"a b\n.jpg", b"z\xff.jpg", "é.jpg".encode()]
    (tmp_path / "in").mkdir()
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes(name)
    (part,) = parts_of([tmp_path / "in"], tmp_path / "out", 7)
    images = list(part.images())
    assert [image.read() for image in images] == names
    shown = [image.name.removeprefix(f"{tmp_path}/in/") for image in images]
    assert shown == ["a b\n.jpg", "z\\xff.jpg", "é.jpg"]


def test_what_cannot_be_read_is_an_error_of_that_image(tmp_path):
    file = tmp_path / "list.txt"
    as_folder(tmp_path, {"there.jpg": b"1"})
    file.write_text("absent.jpg\nthere.jpg\n/dev/zero\n")
    (part,) = parts_of([file], tmp_path / "out", 7)
    absent, there, device = part.images()
    assert there.read() == b"1"
    for image in (absent, device):
        with pytest.raises(FileError, match="expected an image file"):
            image.read()


@pytest.mark.parametrize("size", [4, 100])
def test_a_tar_that_was_cut_short_gives_its_whole_images_and_an_error(tmp_path, size):
    whole = tar_of(tmp_path).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: 4 * 2560 + 700])  # an image and its label take 5 blocks of 512 bytes
    images = [image for part in parts_of([cut], tmp_path / "out", size) for image in part.images()]
    assert [image.read() for image in images[:4]] == CONTENTS[:4]
    assert len(images) == 6
    for image in images[4:]:
        with pytest.raises(FileError, match="damaged"):
            image.read()


def tar_of_endless_size() -> bytes:
    """A member whose size, in a header of its own, is beyond any file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo("1.png")
        entry.pax_headers = {"size": "9" * 20}
        tar.addfile(entry)
        tar.addfile(tarfile.TarInfo("2.png"))
    return file.getvalue()


@pytest.mark.parametrize("content", [b"no tar" * 200, tar_of_endless_size()])
def test_a_tar_without_a_whole_header_is_an_error_of_its_own(tmp_path, content):
    (tmp_path / "shard.tar").write_bytes(content)
    parts = parts_of([tmp_path / "shard.tar"], tmp_path / "out", 7)
    *_, last = (image for part in parts for image in part.images())
    with pytest.raises(FileError, match="damaged"):
        last.read()


def test_a_path_with_nul_is_refused_in_a_short_line(tmp_path):
    (tmp_path / "list.txt").write_bytes(bytes(5000))
    with pytest.raises(BulkError, match="got one with NUL") as refused:
        parts_of([tmp_path / "list.txt"], tmp_path / "out", 7)
    assert len(str(refused.value)) < 1000


def test_a_damaged_parquet_file_is_an_error_of_its_rows_not_of_the_run(tmp_path):
    file = bytes_of(tmp_path)
    data = bytearray(file.read_bytes())
    data[100:600] = b"\xff" * 500  # within the first row group
    file.write_bytes(data)
    images = [image for part in parts_of([file], tmp_path / "out", 5) for image in part.images()]
    assert len(images) == len(IMAGES)
    with pytest.raises(FileError, match="damaged"):
        images[0].read()
    assert images[-1].read() == CONTENTS[-1]


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar's header with any size field, and the checksum that it should have."""
    block = bytearray(tarfile.TarInfo(name).tobuf())
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def tar_size(size: int) -> bytes:
    """A size field in base 256, which may be negative."""
    return (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=True)


@pytest.mark.parametrize(
    "bad",
    [
        header("2.jpg", tar_size(-512)),
        header("2.jpg", tar_size(-1024)),  # back to itself
        header("2.jpg", tar_size(2**80)),  # no file offset
        header("2.jpg", b"no number..."),
        header("2.jpg", tar_size(8))[:-1] + b"x",  # another checksum
        header("long", tar_size(2**31), b"L") + b"n" * 1024,
        header("pax", tar_size(2**31), b"x") + b"n" * 1024,
        header("pax", tar_size(512), b"x") + b"14 size=-1024\n".ljust(512, b"\0"),
        header("sparse", tar_size(2**31), b"S"),
        b"\xff" * 512,
    ],
)
def test_a_damaged_header_ends_a_tar_with_an_error_after_its_whole_images(tmp_path, bad):
    good = header("1.jpg", tar_size(3)) + b"one".ljust(512, b"\0")
    file = tmp_path / "a.tar"
    file.write_bytes(good + bad + good + bytes(1024))
    tracemalloc.start()
    first, *others = [
        image for part in parts_of([file], tmp_path / "out", 1) for image in part.images()
    ]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert first.read() == b"one"
    assert others
    for image in others:
        with pytest.raises(FileError, match="damaged"):
            image.read()
    assert peak < 2**25


def test_links_and_devices_in_a_tar_are_no_images(tmp_path):
    file = tmp_path / "a.tar"
    with tarfile.open(file, "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"{kind.decode()}.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        member = tarfile.TarInfo("../up.jpg")
        member.size = 2
        tar.addfile(member, io.BytesIO(b"up"))
    (part,) = parts_of([file], tmp_path / "out", 7)
    assert [(each.name, each.read()) for each in part.images()] == [(f"{file}/../up.jpg", b"up")]


def test_a_member_whose_name_is_no_utf8_is_shown_with_escapes(tmp_path):
    file = tmp_path / "a.tar"
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        tar.addfile(tarfile.TarInfo(os.fsdecode(b"\xff.jpg")))
    (part,) = parts_of([file], tmp_path / "out", 7)
    assert [image.name for image in part.images()] == [f"{file}/\\xff.jpg"]


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "", "a\0b"])
def test_paths_in_parquet_and_json_stay_in_their_folder(tmp_path, name):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    below = tmp_path / "below"
    below.mkdir()
    rows = [{"bytes": None, "path": name}]
    for column in ({"path": [name]}, {"image": rows}):
        (part,) = parts_of([as_parquet(below / "a.parquet", column)], tmp_path / "out", 7)
        (image,) = part.images()
        with pytest.raises(IMAGE_ERRORS):
            image.read()
    (below / "list.json").write_text(json.dumps([name]))
    with pytest.raises(ForeignPath):
        parts_of([below / "list.json"], tmp_path / "out", 7)


def test_a_name_that_is_no_text_is_the_rows_number(tmp_path):
    file = as_parquet(tmp_path / "a.parquet", {"image": [{"bytes": b"1", "path": 5}]})
    (part,) = parts_of([file], tmp_path / "out", 7)
    assert [image.name for image in part.images()] == [f"{file}#0"]


def test_two_columns_of_one_name_are_refused(tmp_path):
    file = tmp_path / "a.parquet"
    column = pa.array([b"1"])
    pq.write_table(pa.Table.from_arrays([column, column], ["image", "image"]), file)
    with pytest.raises(BulkError, match="expected one column of images, got image, image"):
        parts_of([file], tmp_path / "out", 7)


def test_rows_that_no_file_of_this_size_has_are_not_counted(tmp_path):
    file = as_parquet(tmp_path / "a.parquet", {"image": pa.nulls(10**6, pa.binary())}, 10**6)
    with pytest.raises(BulkError, match="expected rows of images, got 1000000 in"):
        parts_of([file], tmp_path / "out", 7)


def test_many_rows_of_one_large_value_are_not_held_at_once(tmp_path):
    large = pa.array([bytes(2**23)]).dictionary_encode().take(pa.array([0] * 64))
    file = as_parquet(tmp_path / "a.parquet", {"image": large.cast(pa.binary())}, 64)
    (part,) = parts_of([file], tmp_path / "out", 64)
    before = pa.total_allocated_bytes()
    del large
    for image in part.images():
        assert len(image.read()) == 2**23
        assert pa.total_allocated_bytes() - before < 8 * 2**23


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeffa.jpg\r\nb.jpg\n".encode())
    (part,) = parts_of([tmp_path / "list.txt"], tmp_path / "out", 7)
    assert [image.name for image in part.images()] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("make", KINDS)
def test_input_that_changed_meanwhile_is_refused_at_the_end_of_its_part(make, tmp_path):
    source = make(tmp_path)
    parts = parts_of([source], tmp_path / "out", 7)
    other = as_folder(tmp_path / "other", {f"{n}.jpg": b"other" for n in range(30)})
    if isinstance(parts[0].place, Paths):
        parts_of([other], tmp_path / "out", 7)  # another run, in the same folder
    elif source.suffix == ".tar":
        as_tar(source, {f"{n}.jpg": b"other" * n for n in range(30)})
    else:
        as_parquet(source, {"id": ["a"], "jpg": [b"o"], "image": [b"o"], "path": ["o"]})
    with pytest.raises(BulkError, match="expected the images that the run began with"):
        list(parts[1].images())


def test_input_that_is_gone_is_refused(tmp_path):
    file = tar_of(tmp_path)
    parts = parts_of([file], tmp_path / "out", 7)
    file.unlink()
    with pytest.raises(BulkError, match="expected the images that the run began with"):
        list(parts[0].images())


@pytest.mark.parametrize("value", [None, b"x" * (2**24 + 1), b""])
def test_bytes_of_a_row_that_are_no_image_are_its_error_or_the_decoders(tmp_path, value):
    file = as_parquet(tmp_path / "a.parquet", {"bytes": [value, b"good"]})
    (part,) = parts_of([file], tmp_path / "out", 7)
    bad, good = part.images()
    assert good.read() == b"good"
    if value != b"":
        with pytest.raises(IMAGE_ERRORS):
            bad.read()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("absent", None, "expected images"),
        ("notes.md", b"", "expected a folder or a file of"),
        ("empty.txt", b"\n", "expected images, got none"),
        ("empty.tar", b"\0" * 10240, "expected images, got none"),
        ("no.parquet", b"PAR1 no", "expected a Parquet file"),
        ("list.json", b'{"a": 1}', "expected a JSON list"),
        ("nul.txt", b"a\0b.jpg", "got one with NUL"),
        ("long.txt", b"a" * 100_000, "expected a path a line"),
    ],
)
def test_an_input_without_images_is_refused_in_one_line(tmp_path, name, content, expected):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((BulkError, FileError), match=expected) as refused:
        parts_of([tmp_path / name], tmp_path / "out", 7)
    assert "\n" not in str(refused.value)


def test_a_parquet_file_without_such_a_column_is_refused_with_its_columns(tmp_path):
    file = as_parquet(tmp_path / "a.parquet", {"label": [1], "photo": [b"1"]})
    with pytest.raises(BulkError, match="got label, photo; name one with --column"):
        parts_of([file], tmp_path / "out", 7)


def test_results_inside_the_input_are_refused(tmp_path):
    folder = folder_of(tmp_path)
    with pytest.raises(BulkError, match="expected a folder outside of"):
        parts_of([folder], folder / "out", 7)


def test_planning_holds_parts_and_no_images(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("".join(f"some/folder/of/images/{n:09d}.jpg\n" for n in range(200_000)))
    tracemalloc.start()
    parts = parts_of([file], tmp_path / "out", 1000)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(parts) == 200
    assert held < 200 * 1000
    assert peak < 2 * 2**20
