"""The input of a bulk run as parts: folders, lists, Parquet and tars, read one image at a time.

The order of images depends on the input alone, so that every run and every shard makes the same
parts. Paths are copied into one file, `PATHS`; a part holds a place in a file, never its images.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final

from bodypose_client.errors import AnnotationError, FileError, RequestRejected
from bodypose_client.files.image_sources import has_image_name
from bodypose_client.image_bytes import read_bounded, read_image_file
from bodypose_client.scoring.json_file import read_json
from bodypose_tools.files.atomic_files import atomic_path
from pose_runtime.errors import ImageError, PoseError
from pose_runtime.spec import ImageLimits

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
_ROWS_AT_ONCE: Final = 16
_MAX_BYTES: Final = ImageLimits().max_bytes


@dataclass(frozen=True, slots=True)
class Image:
    """One image of the input; `name` is its `path` in the result."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class Paths:
    """Images whose paths stand in `file` from byte `start` on."""

    file: Path
    start: int
    below: Path  # paths are relative to it, or absolute

    def images(self, count: int) -> Iterator[Image]:
        with self.file.open("rb") as file:
            file.seek(self.start)
            for _, path in zip(range(count), _between_nuls(file), strict=False):
                yield Image(_shown(path), partial(read_image_file, self.below / path))


@dataclass(frozen=True, slots=True)
class Members:
    """Images of a tar, from the member whose header stands at byte `start` on."""

    file: Path
    start: int
    is_damaged: bool  # the last of the images stands for what cannot be read

    def images(self, count: int) -> Iterator[Image]:
        whole = count - self.is_damaged
        with self.file.open("rb") as file:
            file.seek(self.start)
            if whole:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    for _, member in zip(range(whole), _image_members(tar), strict=False):
                        # Read here, in turn: other threads may call `read`, and later.
                        yield _read_already(f"{self.file}/{member.name}", tar, member)
        if self.is_damaged:
            yield _unreadable(str(self.file), self.file, "a whole tar")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a Parquet file from number `start` on."""

    file: Path
    start: int
    column: str
    names: str | None  # column with the images' names; None: the row's number names it

    def images(self, count: int) -> Iterator[Image]:
        number, end = self.start, self.start + count
        try:
            for value, name in self._values(count):
                shown = name or f"{self.file}#{number}"
                yield Image(shown, partial(_bytes_of, value, self.file.parent))
                number += 1
        except (OSError, ValueError):  # pyarrow's errors are both
            for row in range(number, end):
                yield _unreadable(f"{self.file}#{row}", self.file, "whole Parquet pages")

    def _values(self, count: int) -> Iterator[tuple[Any, str | None]]:
        import pyarrow.parquet as pq

        columns = [self.column, *([self.names] if self.names else [])]
        # Without these two settings pyarrow holds a whole row group.
        with pq.ParquetFile(self.file, pre_buffer=False, buffer_size=1 << 20) as file:
            groups, skip = _groups_from(file, self.start)
            for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=columns):
                for row in range(min(skip, len(batch)), len(batch)):
                    if not count:
                        return
                    count -= 1
                    value = batch.column(self.column)[row].as_py()
                    name = batch.column(self.names)[row].as_py() if self.names else None
                    yield value, value.get("path") if isinstance(value, dict) else name
                skip = max(0, skip - len(batch))


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
        """Its `count` images; a file's content is read when asked for."""
        return self.place.images(self.count)


def parts_of(
    sources: Sequence[Path], folder: Path, size: int, column: str | None = None
) -> list[Part]:
    """Every part of the input; the paths in it are written to `PATHS` in `folder`.

    Args:
        sources: folders (searched through), lists (`.txt`, `.lst`: a path a line; `.json`), Parquet
            and WebDataset files (`.tar`).
        folder: of the results.
        size: number of images of a part.
        column: of Parquet files: bytes, paths, or structs of both; None: the first of the usual.

    Raises:
        BulkError: a source is none of these, has no images, or contains `folder`.
        FileError: a source cannot be read.
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
                sha256 = hashlib.sha256("\0".join(weights).encode("utf-8", "replace")).hexdigest()
                parts.append(Part(len(parts), len(weights), sha256, place))
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
            raise BulkError(f"{_shown(os.fsdecode(name))!r}: expected a path, got one with NUL")
        paths.write(name + b"\0")
        together.append(_shown(os.fsdecode(name)))
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
            yield from (line for each in file if (line := each.rstrip(b"\r\n")))
        return
    try:
        listed = read_json(source, "a JSON list of image paths", _LARGEST_LIST)
    except AnnotationError as error:
        raise BulkError(str(error)) from error
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise BulkError(f"{source}: expected a JSON list of image paths, got other JSON")
    yield from (each.encode("utf-8", "surrogatepass") for each in listed)


def _in_tar(source: Path, size: int) -> Iterator[Piece]:
    start, together, is_damaged = -1, list[str](), False
    try:
        with tarfile.open(source, "r:") as tar:
            for member in _image_members(tar):
                if len(together) == size:
                    yield Members(source, start, is_damaged=False), together
                    together = []
                if not together:
                    start = member.offset
                together.append(f"{source}/{member.name} {member.size}")
    except (tarfile.TarError, OSError):
        is_damaged = True
        together.append(f"{source} is damaged")
    if together:
        yield Members(source, start, is_damaged), together


def _image_members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while member := tar.next():
        tar.members.clear()  # type: ignore[attr-defined]  # it would keep all that it has seen
        if member.isfile() and has_image_name(member.name.rpartition("/")[2]):
            yield member


def _read_already(name: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Image:
    file = tar.extractfile(member)
    assert file is not None
    try:
        data = read_bounded(file, _MAX_BYTES)  # type: ignore[arg-type]
    except RequestRejected as error:
        return _refused(name, error)
    except (tarfile.TarError, OSError):
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
    usual = [column] if column else _IMAGE_COLUMNS
    images = next((each for each in usual if each in schema.names), None)
    if images is None:
        raise BulkError(
            f"{source}: expected a column {column or 'of images'}, got"
            f" {', '.join(schema.names)}; name one with --column"
        )
    names = next(
        (
            each
            for each in _NAME_COLUMNS
            if each in schema.names
            and each != images
            and pa.types.is_string(schema.field(each).type)
        ),
        None,
    )
    if pa.types.is_string(schema.field(images).type):
        names = images
    bytes_in_all = source.stat().st_size
    for start in range(0, count, size):
        rows = [f"{source}#{row} {bytes_in_all}" for row in range(start, min(start + size, count))]
        yield Rows(source, start, images, names), rows


def _groups_from(file: pq.ParquetFile, start: int) -> tuple[list[int], int]:
    """Row groups that hold row `start` and later ones, and the rows to skip in the first."""
    first = 0
    while first < file.num_row_groups and start >= file.metadata.row_group(first).num_rows:
        start -= file.metadata.row_group(first).num_rows
        first += 1
    return list(range(first, file.num_row_groups)), start


def _bytes_of(value: Any, below: Path) -> bytes:
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and "\0" not in value:
        return read_image_file(below / value)
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


def _shown(path: str) -> str:
    """A path as text; bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
