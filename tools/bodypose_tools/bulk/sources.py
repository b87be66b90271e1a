"""The input of a bulk run as parts: folders, lists, Parquet and tars, read one image at a time.

The order of images depends on the input alone, so that every run and every shard makes the same
parts. Paths are copied into one file, `PATHS`; a part holds a place in a file, never its images.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, Self

from bodypose_client.errors import AnnotationError, FileError
from bodypose_client.files.image_sources import has_image_name
from bodypose_client.image_bytes import read_image_file
from bodypose_client.scoring.json_file import read_json
from bodypose_tools.files.atomic_files import atomic_path
from pose_runtime.errors import ImageError, PoseError
from pose_runtime.paths import Inside
from pose_runtime.spec import ImageLimits

from .part_files import shown
from .settings import BulkError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# Readers of Parquet folders skip names that begin with an underscore.
PATHS: Final = "_paths.lst"  # NUL between them: any other byte may stand in a path
TAR, PARQUET = ".tar", ".parquet"
_LISTS: Final = (".txt", ".lst", ".json")
_LARGEST_LIST: Final = 1 << 30
# In this order, where a person names none. A Hugging Face image is a struct of bytes and path.
_IMAGE_COLUMNS: Final = ("image", "bytes", "jpg", "jpeg", "png", "webp", "path", "file_name")
_NAME_COLUMNS: Final = ("path", "file_name", "name", "id", "__key__")
_MAX_BYTES: Final = ImageLimits().max_bytes
_LONGEST_LINE: Final = 1 << 16
_LONGEST_TAR_NAME: Final = 1 << 20  # a header of a longer one would be read into memory whole
_TAR_HEADERS_OF_NAMES: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the input; `name` is its `path` in the result."""

    name: str
    read: Callable[[], bytes]


Told = tuple[str, Image]  # an image, and what it was told by when the run was planned


@dataclass(frozen=True, slots=True)
class Paths:
    """Images whose paths stand in `file` from byte `start` on."""

    file: Path
    start: int
    below: Path  # paths are relative to it, or absolute

    def images(self, count: int) -> Iterator[Told]:
        with self.file.open("rb") as file:
            file.seek(self.start)
            for _, path in zip(range(count), _between_nuls(file), strict=False):
                name = shown(path)
                yield name, Image(name, partial(read_image_file, self.below / path))


@dataclass(frozen=True, slots=True)
class Members:
    """Images of a tar, from the member whose header stands at byte `start` on."""

    file: Path
    start: int
    is_damaged: bool  # the last of the images stands for what cannot be read

    def images(self, count: int) -> Iterator[Told]:
        whole = count - self.is_damaged
        if whole:
            with self.file.open("rb") as file:
                file.seek(self.start)
                for _, member in zip(range(whole), _image_members(file), strict=False):
                    name = shown(f"{self.file}/{member.name}")
                    # Read here, in turn: other threads may call `read`, and later.
                    yield _of_member(self.file, member), _read_already(name, file, member)
        if self.is_damaged:
            name = shown(str(self.file))
            yield _of_damaged(self.file), _unreadable(name, self.file, "a whole tar")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a Parquet file from number `start` on."""

    file: Path
    start: int
    column: str
    names: str | None  # column with the images' names; None: the row's number names it

    def images(self, count: int) -> Iterator[Told]:
        import pyarrow as pa

        number, end = self.start, self.start + count
        size, folder = self.file.stat().st_size, Inside(self.file.parent)
        try:
            for value, name in self._values(count):
                image = Image(
                    shown(name or f"{self.file}#{number}"), partial(_bytes_of, value, folder)
                )
                yield _of_row(self.file, number, size), image
                number += 1
        except (pa.ArrowException, OSError, ValueError):  # ValueError: text that is not UTF-8
            for row in range(number, end):
                name = shown(f"{self.file}#{row}")
                told = _of_row(self.file, row, size)
                yield told, _unreadable(name, self.file, "whole Parquet pages")

    def _values(self, count: int) -> Iterator[tuple[Any, str | None]]:
        import pyarrow.parquet as pq

        columns = [self.column, *([self.names] if self.names else [])]
        # Without these two settings pyarrow holds a whole row group.
        with pq.ParquetFile(self.file, pre_buffer=False, buffer_size=1 << 20) as file:
            groups, skip = _groups_from(file, self.start)
            # A row at a time: a value that many rows share is small in the file, not in a batch.
            rows = file.iter_batches(1, row_groups=groups, columns=columns)
            for row in islice(rows, skip, skip + count):
                value = row.column(self.column)[0].as_py()
                name = row.column(self.names)[0].as_py() if self.names else None
                if isinstance(value, dict):
                    name = value.get("path")
                yield value, name if isinstance(name, str) else None


@dataclass(frozen=True, slots=True)
class Part:
    """Images that are processed together and written to one file.

    sha256: of the images' names, and of the sizes of what lies in a tar or Parquet file.
    """

    number: int
    count: int
    sha256: str
    place: Paths | Members | Rows

    def images(self) -> Iterator[Image]:
        """Its `count` images; a file's content is read when asked for.

        Raises:
            BulkError: at the end, if they are not those that the part was planned with, because a
                file changed meanwhile.
        """
        told: list[str] = []
        try:
            for each, image in self.place.images(self.count):
                told.append(each)
                yield image
        except (OSError, tarfile.TarError):
            told.clear()
        if _sha256_of(told) != self.sha256:
            raise BulkError(
                f"{self.place.file}: expected the images that the run began with, got others; it is"
                " damaged, it changed, or another run has the same output folder: run the same"
                " command again"
            )


def parts_of(
    sources: Sequence[Path], folder: Path, size: int, column: str | None = None
) -> list[Part]:
    """Every part of the input; the paths in it are written to `PATHS` in `folder`.

    Args:
        sources: folders (searched through), lists (`.txt`, `.lst`: a path a line; `.json`: paths
            below its folder), Parquet and WebDataset files (`.tar`).
        folder: of the results.
        size: number of images of a part.
        column: of Parquet files: bytes, paths, or structs of both; None: the first of the usual.

    Raises:
        BulkError: a source is none of these, has no images, or contains `folder`.
        FileError: a source cannot be read.
        ForeignPath: a JSON list names a place outside its folder.
        DiskError: `folder` cannot be written.
    """
    for source in sources:
        if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
            raise BulkError(f"{folder}: expected a folder outside of {source}; choose another")
    parts: list[Part] = []
    with atomic_path(folder / PATHS) as temporary, temporary.open("wb") as paths:
        for source in sources:
            before = len(parts)
            for place, weights in _pieces(source, paths, folder / PATHS, size, column):
                parts.append(Part(len(parts), len(weights), _sha256_of(weights), place))
            if len(parts) == before:
                raise BulkError(f"{source}: expected images, got none")
    return parts


Piece = tuple[Paths | Members | Rows, list[str]]  # and what its images are told by


def _pieces(
    source: Path, paths: IO[bytes], kept: Path, size: int, column: str | None
) -> Iterator[Piece]:
    if source.is_dir():
        containers: list[Path] = []
        yield from _listed(_files(source, containers), Path.cwd(), paths, kept, size)
        for container in containers:
            yield from _pieces(container, paths, kept, size, column)
    elif not source.is_file():
        raise FileError(source, "images", FileNotFoundError(2, "No such file or directory"))
    elif source.suffix in _LISTS:
        yield from _listed(_lines(source), source.parent.absolute(), paths, kept, size)
    elif source.suffix == TAR:
        yield from _in_tar(source, size)
    elif source.suffix == PARQUET:
        yield from _in_parquet(source, size, column)
    else:
        kinds = ", ".join((*_LISTS, TAR, PARQUET))
        raise BulkError(f"{source}: expected a folder or a file of {kinds}, got none of these")


def _listed(
    names: Iterable[bytes], below: Path, paths: IO[bytes], kept: Path, size: int
) -> Iterator[Piece]:
    start, together = paths.tell(), list[str]()
    for name in names:
        if b"\0" in name:
            begins = shown(os.fsdecode(name[:200]))
            raise BulkError(f"{begins!r}: expected a path, got one with NUL")
        paths.write(name + b"\0")
        together.append(shown(os.fsdecode(name)))
        if len(together) == size:
            yield Paths(kept, start, below), together
            start, together = paths.tell(), []
    if together:
        yield Paths(kept, start, below), together


def _files(folder: Path, containers: list[Path]) -> Iterator[bytes]:
    """Paths of images below a folder, in order; tars and Parquet files go to `containers`."""

    def refuse(error: OSError) -> None:
        raise FileError(Path(error.filename), "a folder", error) from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(place, name)  # noqa: PTH118  a Path for each file takes longer
            if name.endswith((TAR, PARQUET)) and not name.startswith("."):
                containers.append(Path(path))
            elif has_image_name(name):
                yield os.fsencode(path)


def _lines(source: Path) -> Iterator[bytes]:
    if source.suffix != ".json":
        with source.open("rb") as file:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            while line := file.readline(_LONGEST_LINE):
                if len(line) == _LONGEST_LINE:
                    raise BulkError(
                        f"{source}: expected a path a line, got a line of {len(line)} bytes"
                    )
                if path := line.rstrip(b"\r\n"):
                    yield path
        return
    try:
        listed = read_json(source, "a JSON list of image paths", _LARGEST_LIST)
    except AnnotationError as error:
        raise BulkError(str(error)) from error
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise BulkError(f"{source}: expected a JSON list of image paths, got other JSON")
    folder = Inside(source.parent)
    for each in listed:
        folder.path(each)
        yield each.encode()


def _in_tar(source: Path, size: int) -> Iterator[Piece]:
    start, together, is_damaged = -1, list[str](), False
    try:
        with source.open("rb") as file:
            for member in _image_members(file):
                if len(together) == size:
                    yield Members(source, start, is_damaged=False), together
                    together = []
                if not together:
                    start = member.offset
                together.append(_of_member(source, member))
    except (tarfile.TarError, OSError):
        is_damaged = True
        together.append(_of_damaged(source))
    if together:
        yield Members(source, start, is_damaged), together


class _Header(tarfile.TarInfo):
    """A tar's header, refused where `tarfile` would stop in silence, or read without a bound."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error
        is_too_long = header.type in _TAR_HEADERS_OF_NAMES and header.size > _LONGEST_TAR_NAME
        if header.size < 0 or is_too_long or header.type == tarfile.GNUTYPE_SPARSE:
            raise tarfile.ReadError(f"a member of type {header.type!a} and size {header.size}")
        return header


def _image_members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Headers of a tar's images from where the open file stands.

    `offset` and `offset_data` count from the file's beginning.

    Raises:
        tarfile.TarError, OSError: the tar is damaged; members before that have come.
    """
    with _as_damaged(), tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
        last = -1
        while member := tar.next():
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all that it has seen
            if member.size < 0 or member.offset <= last:  # it would be read for ever
                raise tarfile.ReadError(f"a member of size {member.size}")
            last = member.offset
            if member.isfile() and has_image_name(member.name.rpartition("/")[2]):
                yield member


@contextlib.contextmanager
def _as_damaged() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError):
        raise
    except Exception as error:  # headers that `tarfile` calculates with have no common error
        raise tarfile.ReadError(str(error)) from error


def _read_already(name: str, file: BinaryIO, member: tarfile.TarInfo) -> Image:
    after = file.tell()
    file.seek(member.offset_data)
    data = file.read(min(member.size, _MAX_BYTES + 1))
    file.seek(after)
    if len(data) > _MAX_BYTES:
        return _refused(name, ImageError(f"at most {_MAX_BYTES} bytes", f"{member.size}"))
    if member.issparse() or len(data) < member.size:
        return _unreadable(name, Path(name), "a whole member of a tar")
    return Image(name, lambda: data)


def _in_parquet(source: Path, size: int, column: str | None) -> Iterator[Piece]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(source) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise BulkError(f"{source}: expected a Parquet file, got {str(error)[:200]!r}") from error
    bytes_in_all = source.stat().st_size
    if not 0 <= count <= bytes_in_all:
        raise BulkError(f"{source}: expected rows of images, got {count} in {bytes_in_all} bytes")
    usual = [column] if column else _IMAGE_COLUMNS
    images = next((each for each in usual if each in schema.names), None)
    if images is None or schema.names.count(images) > 1:
        raise BulkError(
            f"{source}: expected one column {column or 'of images'}, got"
            f" {', '.join(schema.names)}; name one with --column"
        )
    names = next(
        (
            each
            for each in _NAME_COLUMNS
            if schema.names.count(each) == 1
            and each != images
            and pa.types.is_string(schema.field(each).type)
        ),
        None,
    )
    if pa.types.is_string(schema.field(images).type):
        names = images
    for start in range(0, count, size):
        rows = [
            _of_row(source, row, bytes_in_all) for row in range(start, min(start + size, count))
        ]
        yield Rows(source, start, images, names), rows


def _groups_from(file: pq.ParquetFile, start: int) -> tuple[list[int], int]:
    """Row groups that hold row `start` and later ones, and the rows to skip in the first."""
    first = 0
    while first < file.num_row_groups and start >= file.metadata.row_group(first).num_rows:
        start -= file.metadata.row_group(first).num_rows
        first += 1
    return list(range(first, file.num_row_groups)), start


def _bytes_of(value: Any, folder: Inside) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        return read_image_file(folder.path(value))
    if not isinstance(value, bytes):
        raise ImageError("encoded bytes or a path", type(value).__name__)
    if len(value) > _MAX_BYTES:
        raise ImageError(f"at most {_MAX_BYTES} bytes", f"{len(value)}")
    return value


def _unreadable(name: str, file: Path, expected: str) -> Image:
    return _refused(name, FileError(file, expected, OSError("a damaged one")))


def _refused(name: str, error: PoseError) -> Image:
    def read() -> bytes:
        raise error

    return Image(name, read)


def _between_nuls(file: BinaryIO) -> Iterator[str]:
    rest = b""
    while more := file.read(1 << 16):
        *whole, rest = (rest + more).split(b"\0")
        yield from map(os.fsdecode, whole)


# What an image is told by: its place, and the size of what lies in a tar or Parquet file.


def _of_member(file: Path, member: tarfile.TarInfo) -> str:
    return f"{file}/{member.name} {member.size}"


def _of_damaged(file: Path) -> str:
    return f"{file} is damaged"


def _of_row(file: Path, row: int, bytes_in_all: int) -> str:
    return f"{file}#{row} {bytes_in_all}"


def _sha256_of(told: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(told).encode("utf-8", "replace")).hexdigest()
